"""What `import fastconv` costs and gives."""

import subprocess
import sys

import pytest

import fastconv as fc


def test_what_is_heavy_comes_on_first_use():
    code = (
        "import sys, numpy; before = set(sys.modules); import fastconv as fc; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "new = {name for name in new - sys.stdlib_module_names if 'cython' not in name}; "
        "assert new <= {'fastconv', 'numpy'}, new; "
        "assert 'fastconv.nn' not in sys.modules; "
        "fc.nn.ReLU, fc.optim, fc.models"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in fc.__all__:
        assert getattr(fc, name) is not None
        assert name in dir(fc)
    assert len(set(fc.__all__)) == len(fc.__all__)
    with pytest.raises(AttributeError, match="module 'fastconv' has no attribute 'nothing'"):
        fc.nothing  # noqa: B018
