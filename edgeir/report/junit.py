"""A report as JUnit XML: one test case per check, for CI systems that count them."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from edgeir.report import wording
from edgeir.report.value import Report

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: Report) -> str:
    """An XML document with one suite; facts are its properties, tables are left to the other formats."""
    failures = str(sum(not check.passed for check in report.checks))
    counts = {"tests": str(len(report.checks)), "failures": failures, "errors": "0"}
    root = ET.Element("testsuites", {"name": "edgeir", **counts})
    suite = ET.SubElement(root, "testsuite", {"name": _clean(report.title), **counts, "skipped": "0"})
    properties = ET.SubElement(suite, "properties")
    ET.SubElement(properties, "property", {"name": "summary", "value": _clean(report.summary)})
    for fact in report.facts:
        ET.SubElement(properties, "property", {"name": _clean(fact.label), "value": _clean(wording.cell(fact.value))})
    for check in report.checks:
        case = ET.SubElement(suite, "testcase", {"classname": _clean(report.title), "name": _clean(check.name)})
        text = _clean(wording.sentence(check))
        if check.passed:
            ET.SubElement(case, "system-out").text = text
        else:
            ET.SubElement(case, "failure", {"message": text, "type": "CheckFailed"}).text = text
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
