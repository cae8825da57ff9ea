"""What `import fastconv` costs and gives."""

import subprocess
import sys

import pytest

import fastconv as fc


def test_what_is_heavy_comes_on_first_use():
    code = (
        "import sys, numpy; before = set(sys.modules); import fastconv as fc; "
        "new = set(sys.modules) - before; "
        "packages = {name.partition('.')[0] for name in new} - sys.stdlib_module_names; "
        "packages = {name for name in packages if 'cython' not in name}; "
        "assert packages <= {'fastconv', 'numpy'}, packages; "
        "late = {'fastconv.nn', 'fastconv.serialization', 'fastconv._plan', 'pathlib', 'zipfile'}; "
        "assert not late & new, new; "
        "assert not any('_kernels.conv_' in name for name in new), new; "
        "fc.nn.ReLU, fc.optim, fc.models, fc.load"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_python_without_gil_stays_without_it():
    code = (
        "import sys, sysconfig, fastconv as fc; "
        "[getattr(fc, name) for name in fc.__all__]; "
        "fc.conv2d([[[[1.0]]]], [[[[1.0]]]]); "  # the plan and its kernels come with it
        "disabled = bool(sysconfig.get_config_var('Py_GIL_DISABLED')); "
        "assert not disabled or not sys._is_gil_enabled()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_drop_ins_come_on_first_use():
    code = (
        "import sys, fastconv as fc; "
        "assert 'fastconv.compat' not in sys.modules; "
        "fc.compat; "
        "assert 'fastconv.compat.dlfs' not in sys.modules; "
        "assert fc.compat.dlfs.Adam.__module__.startswith('fastconv.compat.dlfs'); "
        "assert 'fastconv.compat.cs231n' not in sys.modules; "
        "assert callable(fc.compat.cs231n.conv_forward_fast); "
        "from fastconv.compat import *; "
        "assert dlfs is fc.compat.dlfs and set(fc.compat.__all__) <= set(dir(fc.compat))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match=r"module 'fastconv\.compat' has no attribute 'nothing'"):
        fc.compat.nothing  # noqa: B018


def test_every_public_name_is_there():
    for name in fc.__all__:
        assert getattr(fc, name) is not None
        assert name in dir(fc)
    assert len(set(fc.__all__)) == len(fc.__all__)
    with pytest.raises(AttributeError, match="module 'fastconv' has no attribute 'nothing'"):
        fc.nothing  # noqa: B018
