"""docs/deploy.md tells of every parameter and output of the template."""

import re
import sys

import pytest

from templates import ROOT, read

sys.path.insert(0, str(ROOT / "bench"))

from cost_deploy import MINUTES, bills, kept
from cost_fit import FITTED_PATH, load
from report import read_sections
from squash.api.routes import routes_of
from squash.cli.arguments import STORE_VARIABLE
from squash.cli.building import MACHINE_VARIABLE

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


def test_the_variables_that_outputs_are_for_are_those_that_the_command_reads():
    """The page and the template say the same, and `squash build` looks there."""
    section = "From nothing to a query"
    said = {names.strip("`"): re.findall(r"`([A-Z0-9_]+)`", why) for names, why in cells(section)}
    for name, variable in (("Store", STORE_VARIABLE), ("BuildMachine", MACHINE_VARIABLE)):
        assert said[name] == [variable]
        assert variable in TEMPLATE["Outputs"][name]["Description"]


def test_the_first_key_is_made_in_the_region_of_the_stack():
    """Its signing key is a parameter there; whose default region is another makes it there, too."""
    command = TEMPLATE["Outputs"]["FirstKey"]["Value"]["Fn::Sub"][0]
    assert command.endswith(" --region ${AWS::Region}")
    assert "--access-key --region" in PAGE


def test_a_domain_name_is_mapped_to_the_stage_at_its_root():
    """Under a mapping's key no path is a route."""
    section = re.search(r"^## A domain name of your own$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    command = re.search(r"```sh\n(.*?)```", section[1], re.DOTALL)[1]
    (stage,) = (
        resource["Properties"]["StageName"]
        for resource in TEMPLATE["Resources"].values()
        if resource["Type"] == "AWS::ApiGatewayV2::Stage"
    )
    assert command.startswith("aws apigatewayv2 create-api-mapping ")
    assert f"--stage '{stage}'" in command
    assert "--api-mapping-key" not in command
    under_a_key = re.search(r"`https://search\.example\.com(/\S+)…`", section[1])[1]
    assert not routes_of(f"{under_a_key}indexes")[0]
    assert routes_of("/v1/indexes")[0]


def test_deploy_page_links_lead_somewhere():
    """What it refers to is there."""
    for target in re.findall(r"\]\(([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target


def test_deploy_page_has_dollars_that_follow():
    """What a million queries cost follows from their inputs by the formula above them."""
    rows = re.findall(r"^\| [\d]+ million × 768 \|.*$", PAGE, re.MULTILINE)
    assert len(rows) == 7
    for row in rows:
        cells_ = [cell.strip() for cell in row.split("|")[1:-1]]
        _, setting, allocators, processors, seconds, gets, dollars, _ = cells_
        a, p, g = float(allocators), float(processors), float(gets)
        tc, ta, tp = (float(value) for value in seconds.split(", "))
        named = re.search(r"CoordinatorMemory=(\d+)", setting)
        parameters = TEMPLATE["Parameters"]
        mc = float(named[1] if named else parameters["CoordinatorMemory"]["Default"]) / 1024
        ma, mp = (
            parameters[name]["Default"] / 1024 for name in ("AllocatorMemory", "ProcessorMemory")
        )
        found = 0.20 * (1 + a + p) + 13.33 * (mc * tc + a * ma * ta + p * mp * tp)
        found += 0.40 * g + 0.50 * 0.31
        found += 0.0 if "QueryUrl" in setting else 1.00 + 0.50 * 0.30
        assert float(dollars) == pytest.approx(found, rel=0.01), row


def test_deploy_page_has_what_the_bench_computes():
    """Both sections are those that `bench/cost.py --deploy` writes."""
    one, found = load(FITTED_PATH).assumptions, read_sections(ROOT / "docs" / "deploy.md")
    assert found == {"bills": bills(one), "kept": kept(one)}
    (event,) = TEMPLATE["Resources"]["Coordinator"]["Properties"]["Events"].values()
    assert event["Properties"]["Schedule"] == f"rate({MINUTES} minutes)"
