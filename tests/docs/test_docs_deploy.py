"""docs/deploy.md tells of every parameter and output of the template."""

import re

from templates import ROOT, read

PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
TEMPLATE = read("template.yaml")


def cells(section):
    """Return the rows of a section's tables."""
    text = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    return [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def test_deploy_page_has_every_parameter_with_its_default():
    """No parameter is missing, none is made up, and the defaults are those of the template."""
    told = {}
    for names, defaults, _ in cells("Parameters"):
        parameters = re.findall(r"`(\w+)`", names)
        values = [value.strip(" `") for value in defaults.split(", ")]
        told |= dict(zip(parameters, values * len(parameters), strict=False))
    assert told == {
        name: str(parameter["Default"]) for name, parameter in TEMPLATE["Parameters"].items()
    }


def test_deploy_page_has_every_output():
    """What the stack prints is explained."""
    told = [name for names, *_ in cells("From nothing to a query") for name in names.split(", ")]
    assert sorted(name.strip(" `") for name in told) == sorted(TEMPLATE["Outputs"])


def test_deploy_page_links_lead_somewhere():
    """What it refers to is there."""
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
