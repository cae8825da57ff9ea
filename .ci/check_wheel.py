"""Fails unless the given wheel is small and holds modules, stubs and licences, but no native sources."""

import sys
import zipfile
from pathlib import Path

LIMIT = 5_000_000  # bytes

wheel = Path(sys.argv[1])
names = zipfile.ZipFile(wheel).namelist()
size = wheel.stat().st_size
sources = [name for name in names if name.endswith((".c", ".h", ".pyx", ".pxd", ".o"))]
compiled = [name for name in names if name.endswith((".so", ".pyd"))]
unstubbed = [name for name in compiled if f"{name.split('.')[0]}.pyi" not in names]

print(f"{wheel.name}: {size / 1e6:.2f} MB, {len(names)} files, {len(compiled)} extension modules")
if size >= LIMIT:
    sys.exit(f"the wheel has {size} bytes, allowed are fewer than {LIMIT}")
if sources:
    sys.exit(f"the wheel holds sources: {', '.join(sources)}")
if not compiled or unstubbed:
    sys.exit(f"extension modules without a stub: {', '.join(unstubbed) or 'there are no modules at all'}")
for needed in ("fastconv/py.typed", "licenses/LICENSE", "licenses/licenses/libgomp.txt"):
    if not any(name.endswith(needed) for name in names):
        sys.exit(f"the wheel lacks {needed}")
