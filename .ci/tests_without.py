"""The tests that a run skipped because a package wasn't there: `tests_without.py package report.xml`.

The report is what `pytest --junitxml` wrote. One argument for pytest a line, for `pytest @file`.
"""

import sys
import xml.etree.ElementTree as ElementTree

package, report = sys.argv[1:]
for case in ElementTree.parse(report).iter("testcase"):
    skipped = case.find("skipped")
    if skipped is not None and f"could not import '{package}'" in f"{skipped.get('message')} {skipped.text}":
        module, name = case.get("classname"), case.get("name")
        if module:
            print(f"{module.replace('.', '/')}.py::{name}")
        else:  # all of a module
            print(f"{name.replace('.', '/')}.py")
