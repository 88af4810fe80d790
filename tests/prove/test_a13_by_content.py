"""A13: pickles and archives are refused by their content, whatever their names; none of their code runs."""

import pytest
from attacks.models import CANARY, MODELS
from deployments import exported
from prove.proof import Proof

from jmsnas.deploy.parts.onnx_scan import scan_onnx
from jmsnas.errors import PartError


@pytest.mark.parametrize("name", [n for n in MODELS if n != "other weights" and "than signed" not in n])
def test_refused_by_content(proof: Proof, name: str) -> None:
    CANARY.unlink(missing_ok=True)
    honest = exported().onnx_part(1, 6)
    assert honest is not None
    with pytest.raises(PartError, match="not an ONNX file|an ONNX file"):
        scan_onnx(MODELS[name](honest))
    assert not CANARY.exists()
    proof.show("refused by content, no canary")
