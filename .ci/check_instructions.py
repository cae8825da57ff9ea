"""Fails where an instruction that old processors lack is outside the objects made for those that have it.

Its argument is a build's folder of objects, as `build/temp.linux-x86_64-cpython-311`. Needs objdump.
It looks for what VEX and EVEX encode (AVX, FMA, AVX-512, BMI), as `-mavx2` and its like allow.
"""

import re
import subprocess
import sys
from pathlib import Path

VIRTUAL_MACHINES = "er[rw]|mcall|mlaunch|mresume|mxoff|mxon|mread|mwrite|mptrld|mptrst|mclear|mfunc"
TOO_NEW = re.compile(
    rf"^\s*[0-9a-f]+:\s+(v(?!(?:{VIRTUAL_MACHINES})\b)\w+|andn|bextr|bls\w+|bzhi|mulx|pdep|pext|rorx|s[ah][lr]x)\b",
    re.MULTILINE,
)
NEWER = {"isa_avx2.o", "isa_avx512.o"}

objects = sorted(Path(sys.argv[1]).rglob("*.o"))
if not {"isa_generic.o", *NEWER} <= {path.name for path in objects}:
    sys.exit(f"{sys.argv[1]} lacks an instruction set's object; it holds {[path.name for path in objects]}")
failed = False
for path in objects:
    listing = subprocess.run(
        ["objdump", "--disassemble", "--no-show-raw-insn", path], check=True, capture_output=True, text=True
    ).stdout
    found = TOO_NEW.findall(listing)
    if bool(found) != (path.name in NEWER):
        print(f"{path}: {len(found)} instructions of AVX or newer, as {sorted(set(found))[:5]}")
        failed = True
if failed:
    sys.exit(1)
print(f"{len(objects)} objects; AVX and newer in {', '.join(sorted(NEWER))} alone")
