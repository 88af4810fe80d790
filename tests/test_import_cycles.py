"""No module imports, directly or through others, a module that imports it, not even inside a function."""

import grimp


def test_modules_import_each_other_in_one_direction_only() -> None:
    graph = grimp.build_graph("jmsnas", exclude_type_checking_imports=False, cache_dir=None)
    # The package itself imports names of its modules when they are first used.
    left = {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}
    left.pop("jmsnas")
    while free := {module for module, imported in left.items() if not imported & set(left)}:
        left = {module: imported for module, imported in left.items() if module not in free}
    assert not left, f"in or above a cycle of imports: {sorted(left)}"
