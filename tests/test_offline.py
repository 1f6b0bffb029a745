"""The environment is set before the libraries that read it are imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from orca2_gen.offline import OFFLINE_ENVIRONMENT

LATE = (*OFFLINE_ENVIRONMENT, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


@pytest.mark.parametrize("package", ["orca2_gen", "ray_jobs", "benchmarks"])
def test_importing_a_package_goes_offline_before_any_library_is_imported(package: str) -> None:
    code = (
        f"import os, sys, {package}; "
        "print([name for name in ('ray', 'vllm', 'torch', 'transformers') if name in sys.modules], "
        f"[name for name in {LATE} if name not in os.environ])"
    )
    bare = {key: value for key, value in os.environ.items() if key not in LATE}
    bare.pop("RAY_ADDRESS", None)
    done = subprocess.run([sys.executable, "-c", code], env=bare, capture_output=True, text=True)
    assert done.stdout == "[] []\n", done.stderr
