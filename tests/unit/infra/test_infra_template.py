"""What the template makes: the functions, what each may do, the routes, and who is told."""

from __future__ import annotations

import ast
import json
import re
from fnmatch import fnmatchcase

import pytest
import yaml

from permissions import allowed, written_once
from squash import limits
from squash.api.cloudwatch import LambdaTelemetry
from squash.api.s3vectors.operations import OPERATIONS
from squash.storage.s3_access import SILENT_S
from templates import ROOT, functions, of_type, read

TEMPLATE = read("template.yaml")
MONITORING = read("infra/monitoring.yaml")
FUNCTIONS = functions(TEMPLATE)
LIBRARY = {"Ref": "LibraryLayer"}
POOL = [f"ProcessorSlot{slot}" for slot in range(8)]
NAMES = [
    "Coordinator",
    "Allocator",
    "Processor",
    "Documents",
    "Indexes",
    "Compactor",
    "Encoder",
    "Builder",
]
HANDLER_LINES_MAX = 30
MEMORY_MB_MAX = 10_240
API_TIMEOUT_S = 30
IAM_POLICIES_MAX = 10

_LIST = ("s3:ListBucket", "bucket")
_SEGMENTS = {
    _LIST,
    ("s3:GetObject", "*/snapshots/*"),
    ("s3:GetObject", "*/segments/*"),
    ("s3:GetObject", "*/trained/*"),
    ("kms:Decrypt", "KmsKeyArn"),
}
_LOG = {("s3:GetObject", "*/index.json"), ("s3:GetObject", "*/log/*")}
_KEYS = {("s3:GetObject", "_keys/*"), ("ssm:GetParameter", "parameter signing-key*")}
_BUCKET = "_buckets/*/_bucket/*"
_BUCKETS = {("s3:GetObject", _BUCKET), ("s3:GetObject", "*/settings/*")}
_ENCODERS = {_LIST, ("s3:GetObject", "_encoders/*"), ("kms:Decrypt", "KmsKeyArn")}
_ENCODE = {("lambda:InvokeFunction", "function encoder")}
_WRITE = {("kms:GenerateDataKey", "KmsKeyArn")} | {
    ("s3:PutObject", f"*/{folder}/*") for folder in ("log", "snapshots", "segments")
}
_TRAIN = {("s3:PutObject", "*/trained/*")}
_REMOVE = {
    ("s3:DeleteObject", key)
    for key in (
        "*/index.json",
        "*/log/*",
        "*/snapshots/*",
        "*/segments/*",
        "*/trained/*",
        "*/builds/*",
        "*/gc/*",
        "*/settings/*",
        _BUCKET,
    )
}
_FAN_OUT = {
    ("lambda:InvokeFunction", "function allocator"),
    ("lambda:InvokeFunction", "function processor-*"),
}
_BUILDS = {("s3:GetObject", "*/builds/*"), ("s3:PutObject", "*/builds/*")}
_MACHINE = {
    ("states:StartExecution", "stateMachine build"),
    ("states:DescribeExecution", "execution build:*"),
    ("states:StopExecution", "execution build:*"),
}
# All that each function may do, with nothing else. Every one may log, and trace if it is asked to.
ALLOWED = {
    "Coordinator": _KEYS | _BUCKETS | _LOG | _SEGMENTS | _FAN_OUT | _ENCODE,
    "Allocator": _LOG | _SEGMENTS | _FAN_OUT,
    "Processor": _SEGMENTS,
    "Documents": _KEYS
    | _BUCKETS
    | _LOG
    | _SEGMENTS
    | _WRITE
    | _ENCODE
    | {("lambda:InvokeFunction", "function compactor")},
    "Indexes": _KEYS
    | _BUCKETS
    | _LOG
    | _SEGMENTS
    | _WRITE
    | _REMOVE
    | _ENCODERS
    | _BUILDS
    | _MACHINE
    | {("s3:PutObject", key) for key in ("*/index.json", _BUCKET, "*/settings/*", "*/gc/*")}
    | {("lambda:InvokeFunction", "function compactor")},
    "Compactor": _BUCKETS
    | _LOG
    | _SEGMENTS
    | _WRITE
    | _TRAIN
    | _REMOVE
    | {("s3:PutObject", "*/gc/*"), ("s3:GetObject", "*/builds/*")},
    "Encoder": _ENCODERS,
    "Builder": _BUCKETS
    | _LOG
    | _SEGMENTS
    | _WRITE
    | _TRAIN
    | _ENCODE
    | _BUILDS
    | {
        ("s3:DeleteObject", "*/builds/*"),
        ("s3:PutObject", "*/gc/*"),
        ("s3:DeleteObject", "*/gc/*"),
        ("s3:GetObject", "beside: *"),
        ("s3:GetObject", "all in each of BuildInputs"),
        ("s3:ListBucket", "each of BuildInputs"),
    },
}
_TRACE = {("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")}

_FAN = {"SQUASH_ALLOCATOR", "SQUASH_PROCESSOR", "SQUASH_AFFINITY", "SQUASH_SLOTS"}
_ALL = {"SQUASH_STORE", "SQUASH_AUTH", "SQUASH_RETAINED_SHARE"}
_WIRE = {"SQUASH_S3VECTORS", "SQUASH_SIGNING_KEY", "SQUASH_KMS_KEY_ARN", "SQUASH_METRICS"}
VARIABLES = {
    "Coordinator": _ALL | _FAN | _WIRE | {"SQUASH_ENCODER"},
    "Allocator": _ALL | _FAN,
    "Processor": _ALL,
    "Documents": _ALL | _WIRE | {"SQUASH_COMPACTOR", "SQUASH_ENCODER"},
    "Indexes": _ALL | _WIRE | {"SQUASH_COMPACTOR", "SQUASH_BUILD_MACHINE", "SQUASH_BUILD_MEMORY"},
    "Compactor": _ALL | {"SQUASH_RETENTION_DAYS"},
    "Encoder": _ALL | {"SQUASH_ENCODERS"},
    "Builder": _ALL | {"SQUASH_ENCODER", "OPENBLAS_NUM_THREADS"},
}


def test_infra_functions_are_those_of_the_design():
    """There is a folder, a handler and a resource for each, and eight processors for the pool."""
    assert list(FUNCTIONS) == [*NAMES[:3], *POOL, *NAMES[3:]]
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}
    assert folders == {name.lower() for name in NAMES}
    for name in POOL:
        resource = TEMPLATE["Resources"][name]
        assert resource["Condition"] == "Pool"
        slot = name.removeprefix("ProcessorSlot")
        own = {"Fn::Sub": f"${{AWS::StackName}}-processor-slot-{slot}"}
        assert resource["Properties"]["FunctionName"] == own
        differ = {"FunctionName", "Description", "TenancyConfig"}
        assert {k: v for k, v in FUNCTIONS[name].items() if k not in differ} == {
            k: v for k, v in FUNCTIONS["Processor"].items() if k not in differ
        }


@pytest.mark.parametrize("name", NAMES)
def test_infra_handlers_are_thin(name):
    """A handler's file has thirty lines at most, and calls the factory of its name."""
    source = (ROOT / "functions" / name.lower() / "app.py").read_text()
    assert len(source.splitlines()) <= HANDLER_LINES_MAX
    tree = ast.parse(source)
    imported = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert ("squash.api.functions", name.lower()) in imported
    assert "handler" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert FUNCTIONS[name]["Handler"] == "app.handler"


@pytest.mark.parametrize("name", NAMES)
def test_infra_roles_allow_what_the_table_says_and_nothing_else(name):
    """A role is one function's (the pool shares the processor's), and has no action with a `*`."""
    role = f"{name}Role"
    users = [f for f, p in FUNCTIONS.items() if p["Role"] == {"Fn::GetAtt": [role, "Arn"]}]
    assert users == ([name, *POOL] if name == "Processor" else [name])
    own_log = {(f"logs:{action}", f"{name}Logs") for action in ("CreateLogStream", "PutLogEvents")}
    found = allowed(TEMPLATE, role)
    assert found == ALLOWED[name] | own_log | _TRACE
    assert not [action for action, _ in found if "*" in action]
    assert {pair for pair in found if pair[1] == "*"} == _TRACE  # X-Ray knows no resources
    trusted = TEMPLATE["Resources"][role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert [statement["Principal"] for statement in trusted] == [
        {"Service": "lambda.amazonaws.com"}
    ]


def test_infra_roles_have_no_more_policies_than_iam_attaches():
    """Ten, unless an account asks for more."""
    for name, role in of_type(TEMPLATE, "AWS::IAM::Role").items():
        assert len(role["Properties"]["ManagedPolicyArns"]) <= IAM_POLICIES_MAX, name


@pytest.mark.parametrize("name", NAMES)
def test_infra_functions_have_the_variables_they_read(name):
    """The environment has what the function reads, and nothing for which it has no use."""
    assert set(FUNCTIONS[name]["Environment"]["Variables"]) == VARIABLES[name]


def test_infra_names_of_functions_are_those_that_are_invoked():
    """Whom the environment and the roles name is a function of the template."""
    named = {name: p["FunctionName"]["Fn::Sub"] for name, p in FUNCTIONS.items()}
    variables = FUNCTIONS["Coordinator"]["Environment"]["Variables"]
    assert variables["SQUASH_ALLOCATOR"]["Fn::Sub"] == named["Allocator"]
    pool, pooled, single = variables["SQUASH_PROCESSOR"]["Fn::If"]
    assert pool == "Pool"
    assert [f"{pooled['Fn::Sub']}-slot-{slot}" for slot in range(8)] == [named[n] for n in POOL]
    assert single["Fn::Sub"] == named["Processor"]
    for caller in ("Documents", "Indexes"):
        compactor = FUNCTIONS[caller]["Environment"]["Variables"]["SQUASH_COMPACTOR"]
        assert compactor["Fn::Sub"] == named["Compactor"]
    for caller in ("Coordinator", "Documents", "Builder"):
        encoder = FUNCTIONS[caller]["Environment"]["Variables"]["SQUASH_ENCODER"]
        assert encoder["Fn::Sub"] == named["Encoder"]


def test_infra_layers_of_one_function_are_its_own():
    """They lie over the library; no other function has one, and a user's own comes on top."""
    assert TEMPLATE["Globals"]["Function"]["Layers"] == [{"Ref": "LibraryLayer"}]
    own = {name: p["Layers"] for name, p in FUNCTIONS.items() if p["Layers"] != [LIBRARY]}
    given = {"Fn::If": ["OwnEncoders", {"Ref": "EncodersLayer"}, {"Ref": "AWS::NoValue"}]}
    assert own == {
        "Encoder": [{"Ref": "EncoderLayer"}, given],
        "Builder": [{"Ref": "BuilderLayer"}],
    }


def test_infra_settings_stay_within_what_lambda_takes():
    """Memory ends at 10,240 MB, which the schema of Lambda would let pass; time-outs nest."""
    for name, properties in FUNCTIONS.items():
        parameter = TEMPLATE["Parameters"][properties["MemorySize"]["Ref"]]
        assert parameter["MaxValue"] == MEMORY_MB_MAX, name
        assert parameter["MinValue"] <= parameter["Default"] <= parameter["MaxValue"]
        assert properties["LoggingConfig"]["LogFormat"] == "JSON"
        assert properties["LoggingConfig"]["LogGroup"]["Ref"] in of_type(
            TEMPLATE, "AWS::Logs::LogGroup"
        )
    timeouts = {name: properties["Timeout"] for name, properties in FUNCTIONS.items()}
    assert API_TIMEOUT_S > timeouts["Coordinator"] > timeouts["Allocator"] > timeouts["Processor"]
    for name in ("Documents", "Indexes", "Encoder"):
        assert timeouts[name] < API_TIMEOUT_S
    # A read of S3 that hangs is repeated while there is time to answer.
    assert min(timeouts.values()) > 2 * SILENT_S


def test_infra_log_groups_end():
    """No log is kept for ever."""
    groups = of_type(TEMPLATE, "AWS::Logs::LogGroup")
    assert {name: g["Properties"]["RetentionInDays"] for name, g in groups.items()} == {
        f"{name}Logs": {"Ref": "RetentionDays"} for name in [*NAMES, "BulkBuild", "Api"]
    }


def test_infra_parameters_explain_themselves_and_are_bounded():
    """Each has a description, a default, and a bound or a pattern; the interface lists them all."""
    for name, parameter in TEMPLATE["Parameters"].items():
        assert {"Description", "Default"} <= set(parameter), name
        assert {"AllowedPattern", "AllowedValues", "MaxValue"} & set(parameter), name
    groups = TEMPLATE["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    shown = [parameter for group in groups for parameter in group["Parameters"]]
    assert sorted(shown) == sorted(TEMPLATE["Parameters"])


def test_infra_metrics_are_refused_where_lambda_would_drop_them(capsys):
    """A line without a level counts as INFO, and above that nothing would be left of them."""
    LambdaTelemetry("coordinator", metrics=True).count({"Requests": 1}, duration_ms=1)
    assert not {"level", "log_level"} & set(json.loads(capsys.readouterr().out))
    rule = TEMPLATE["Rules"]["MetricsAreLogged"]
    assert rule["RuleCondition"] == {"Fn::Equals": [{"Ref": "Metrics"}, "on"]}
    taken, of = rule["Assertions"][0]["Assert"]["Fn::Contains"]
    assert of == {"Ref": "LogLevel"}
    levels = TEMPLATE["Parameters"]["LogLevel"]["AllowedValues"]
    assert taken == levels[: levels.index("INFO") + 1]


def test_infra_schedules_fold_often_and_collect_daily():
    """What the compactor is told by its schedules is what it understands."""
    events = FUNCTIONS["Compactor"]["Events"]
    assert {name: event["Properties"].get("Input") for name, event in events.items()} == {
        "Schedule": None,
        "Collect": '{"gc": true}',
    }
    retention = TEMPLATE["Parameters"]["SnapshotRetentionDays"]
    assert (retention["Default"], retention["MinValue"]) == (1, 1)
    assert retention["MaxValue"] == limits.RETENTION_DAYS_MAX


def test_infra_slots_are_kept_warm_if_asked_for():
    """The schedule is there, off by default, says what the coordinator takes, and no call twice."""
    coordinator = FUNCTIONS["Coordinator"]
    (event,) = coordinator["Events"].values()
    assert event["Type"] == "Schedule"
    assert event["Properties"]["State"] == {"Fn::If": ["KeptWarm", "ENABLED", "DISABLED"]}
    assert json.loads(event["Properties"]["Input"]) == {"keep_warm": True}
    assert TEMPLATE["Parameters"]["KeepWarm"]["Default"] == "off"
    assert coordinator["EventInvokeConfig"]["MaximumRetryAttempts"] == 0


def test_infra_bucket_is_closed_kept_and_written_once():
    """TLS alone, nothing public, encrypted, kept with the stack gone; no commit is written over."""
    bucket = TEMPLATE["Resources"]["Bucket"]
    assert bucket["DeletionPolicy"] == bucket["UpdateReplacePolicy"] == "Retain"
    properties = bucket["Properties"]
    assert set(properties["PublicAccessBlockConfiguration"].values()) == {True}
    assert properties["LifecycleConfiguration"]["Rules"][0]["AbortIncompleteMultipartUpload"]
    assert properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    policy = TEMPLATE["Resources"]["BucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    denied = {statement["Sid"]: statement for statement in policy}
    assert {statement["Effect"] for statement in policy} == {"Deny"}
    assert denied["OnlyTLS"]["Condition"] == {"Bool": {"aws:SecureTransport": False}}
    assert set(written_once(TEMPLATE)) == {
        f"*/log/{'?' * 20}",
        f"*/settings/{'?' * 20}",
        "*/index.json",
        f"_buckets/*/_bucket/{'?' * 20}",
        "_encoders/*/encoder.json",
    }
    assert denied["CommitsAreWrittenOnce"]["Condition"]["Null"] == {"s3:if-none-match": True}


def routes():
    """Return the function of each route, and whether it asks for IAM credentials where they may."""
    found = {}
    for route in of_type(TEMPLATE, "AWS::ApiGatewayV2::Route").values():
        properties = route["Properties"]
        target = properties["Target"]["Fn::Sub"]
        integration = re.fullmatch(r"integrations/\$\{(\w+)\}", target)[1]
        uri = TEMPLATE["Resources"][integration]["Properties"]["IntegrationUri"]
        guarded = properties["AuthorizationType"] == {"Fn::If": ["Iam", "AWS_IAM", "NONE"]}
        assert guarded or properties["AuthorizationType"] == "NONE"
        found[properties["RouteKey"]] = (uri["Fn::GetAtt"][0], guarded)
    return found


def service_routes():
    """Return the routes that the operations of S3 Vectors want."""
    return {
        f"{one.method} {one.path}{'{resourceArn+}' if one.on == 'resource' else ''}": one
        for one in OPERATIONS.values()
    }


def test_infra_routes_of_s3_vectors_are_its_operations():
    """Each leads to the function that serves it, unauthorised, and is left out when it is off."""
    found, wanted = routes(), service_routes()
    assert {key: found[key] for key in wanted} == {
        key: (operation.function.capitalize(), False) for key, operation in wanted.items()
    }
    routed = of_type(TEMPLATE, "AWS::ApiGatewayV2::Route").values()
    left_out = [route for route in routed if "Condition" in route]
    assert {route["Properties"]["RouteKey"] for route in left_out} == set(wanted)
    assert {route["Condition"] for route in left_out} == {"SpeaksS3Vectors"}


def test_infra_written_once_holds_for_numbers_and_no_name():
    """An index or a vector bucket that is called as a folder of ours is written like any other."""
    denied = written_once(TEMPLATE)
    number, identifier = "0" * 20, "0" * 32

    def is_once(key):
        return any(fnmatchcase(key, pattern) for pattern in denied)

    for folder in ("papers", "_buckets/media/papers", "_buckets/media/log", "_buckets/log/gc1"):
        assert is_once(f"{folder}/index.json")
        assert is_once(f"{folder}/{identifier}/log/{number}")
        assert is_once(f"{folder}/{identifier}/settings/{number}")
        assert not is_once(f"{folder}/{identifier}/segments/{identifier}/codes")
        assert not is_once(f"{folder}/{identifier}/gc/{identifier}")
    assert is_once(f"_buckets/media/_bucket/{number}")


def test_infra_routes_lead_to_their_functions():
    """Records are the documents' affair, queries the coordinator's, all else the indexes'."""
    found = {key: route for key, route in routes().items() if key not in service_routes()}
    assert found.pop("$default") == ("Indexes", True)
    for key, (function, guarded) in found.items():
        path = key.partition(" ")[2]
        expected = (
            "Coordinator"
            if path.endswith("/query")
            else "Documents"
            if "/vectors" in path
            else "Indexes"
        )
        assert function == expected, key
        assert guarded == (path != "/v1/health"), key
    permitted = [
        permission["Properties"]
        for permission in of_type(TEMPLATE, "AWS::Lambda::Permission").values()
    ]
    assert {
        one["FunctionName"]["Ref"]
        for one in permitted
        if one["Principal"] == "apigateway.amazonaws.com"
    } == {function for function, _ in found.values()}


def test_infra_url_for_queries_is_asked_for_and_lets_nobody_past_it():
    """Off by default; with keys everybody gets to the function, by the URL alone; else nobody."""
    assert TEMPLATE["Parameters"]["QueryUrl"]["Default"] == "off"
    (url,) = of_type(TEMPLATE, "AWS::Lambda::Url").values()
    assert url["Condition"] == "HasQueryUrl"
    assert url["Properties"] == {
        "TargetFunctionArn": {"Fn::GetAtt": ["Coordinator", "Arn"]},
        "AuthType": {"Fn::If": ["Iam", "AWS_IAM", "NONE"]},
    }
    public = [
        permission
        for permission in of_type(TEMPLATE, "AWS::Lambda::Permission").values()
        if permission["Properties"]["Principal"] == "*"
    ]
    assert {permission["Condition"] for permission in public} == {"OpenQueryUrl"}
    named = {"FunctionName": {"Ref": "Coordinator"}, "Principal": "*"}
    assert [permission["Properties"] for permission in public] == [
        named | {"Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": "NONE"},
        named | {"Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True},
    ]
    asked = {"Condition": "HasQueryUrl"}
    assert TEMPLATE["Conditions"]["OpenQueryUrl"] == {
        "Fn::And": [asked, {"Fn::Not": [{"Condition": "Iam"}]}]
    }


def test_infra_routes_are_those_of_the_http_interface():
    """Every operation of the OpenAPI description has a route, and the other way round."""
    description = ROOT / "infra" / "openapi.yaml"
    if not description.exists():
        pytest.skip("the HTTP interface has no description yet")
    paths = yaml.safe_load(description.read_text(encoding="utf-8"))["paths"]
    operations = {
        f"{method.upper()} {path}"
        for path, operations in paths.items()
        for method in operations
        if method in {"get", "post", "put", "patch", "delete"}
    }
    assert set(routes()) - {"$default"} - set(service_routes()) == operations


def test_infra_access_log_is_json():
    """A line of the access log is one JSON object, and has no header or body in it."""
    stage = TEMPLATE["Resources"]["ApiStage"]["Properties"]
    line = json.loads(stage["AccessLogSettings"]["Format"])
    assert {"status", "route", "latency_ms", "request_id"} <= set(line)
    assert not [value for value in line.values() if "authorizer" in value or "header" in value]
    assert stage["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": {"Ref": "ThrottleRate"},
        "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"},
    }


def watched_names(value):
    """Walk the names of functions that a part of the monitoring template names."""
    yield from re.findall(r"\$\{Name\}-([a-z0-9-]*(?:\$\{Affinity\})?)", json.dumps(value))


def test_infra_monitoring_watches_the_functions_there_are():
    """Alarms and dashboard name every function, and no other."""
    stack = TEMPLATE["Resources"]["Monitoring"]
    assert stack["Condition"] == "Watched"
    assert set(stack["Properties"]["Parameters"]) == set(MONITORING["Parameters"])
    singles = {name.lower() for name in NAMES if name != "Processor"} | {"processor-${Affinity}"}
    pool = {f"processor-slot-{slot}" for slot in range(8)}
    alarms = of_type(MONITORING, "AWS::CloudWatch::Alarm")
    for alarm in ("FunctionErrors", "FunctionThrottles"):
        # A task of a build that failed or was throttled is done again: only its end is told of.
        assert set(watched_names(alarms[alarm])) == singles - {"builder"}
    assert set(watched_names(alarms["BuildFailed"])) == {"build"}
    assert set(watched_names(alarms["CompactorIdle"])) == {"compactor"}
    assert set(watched_names(MONITORING["Resources"]["Dashboard"])) == singles | pool | {"api"}
    for name, alarm in alarms.items():
        assert alarm["Properties"]["AlarmActions"] == [{"Ref": "Alarms"}], name


@pytest.mark.parametrize("pool", [True, False], ids=["pool", "one processor"])
def test_infra_dashboard_is_json(pool):
    """What is left when names are put in is JSON, with the widgets side by side."""
    text, given = MONITORING["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    processors = given["Processors"]["Fn::If"][2 if pool else 1]["Fn::Sub"]
    values = {"Name": "squash", "Affinity": "tenant", "ApiId": "a1", "AWS::Region": "eu-west-1"}
    values["BuildMachine"] = "arn:aws:states:eu-west-1:123456789012:stateMachine:squash-build"

    def put(words, more):
        return re.sub(r"\$\{([^}]+)\}", lambda m: (values | more)[m[1]], words)

    body = json.loads(put(text, {"Processors": put(processors, {})}))
    places = {(widget["x"], widget["y"]) for widget in body["widgets"]}
    assert len(places) == len(body["widgets"])
    names = re.findall(r"squash-processor[a-z0-9-]*", json.dumps(body))
    assert len(set(names)) == (8 if pool else 1)
