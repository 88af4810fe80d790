import pytest

from jmsnas.datasets.catalog import DATASETS
from jmsnas.errors import InputError
from jmsnas.nas.search.config import RECIPES, SearchConfig, find_recipe


def test_the_papers_recipe_to_the_letter() -> None:
    # Section V-B: "20 warm-up epochs and 60 training epochs, using Adam optimizer with initial learning rate
    # of 0.002 and batch size of 512", "three levels", "further train the model ... for 200 epochs".
    paper = find_recipe("paper")
    config = paper.config
    assert (config.warmup_epochs, config.search_epochs, config.final_epochs) == (20, 60, 200)
    assert (config.optimizer, config.lr, config.alpha_lr, config.batch_size) == ("adam", 0.002, 0.002, 512)
    assert (paper.space, paper.dataset, paper.levels) == ("imagenet", "imagenet", 3)


def test_recipes_name_data_sets_that_are_and_the_first_run_is_the_default() -> None:
    assert all(found.dataset in DATASETS for found in RECIPES.values())
    assert RECIPES["first-run"].config == SearchConfig()


def test_a_recipe_nobody_knows() -> None:
    with pytest.raises(
        InputError, match="unknown recipe 'mnist': expected one of first-run, fashion-mnist, cif"
    ):
        find_recipe("mnist")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"constraint": "hope"}, "unknown constraint 'hope': expected penalty or multiplier"),
        ({"derive": "best"}, "unknown derive 'best': expected constrained or argmax"),
        ({"optimizer": "lion"}, "unknown optimizer 'lion': expected sgd or adam"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"best": 0}, "best must be 1 or more, got 0"),
    ],
)
def test_settings_no_search_can_run_with(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchConfig(**given)  # type: ignore[arg-type]
