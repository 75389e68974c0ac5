"""A SAM template is read as CloudFormation would resolve it."""

from __future__ import annotations

import json

import pytest

from squash.errors import InvalidArgumentError, NotFoundError
from squash.local.template import FunctionUrl, Route, read_template

TEMPLATE = """
AWSTemplateFormatVersion: 2010-09-09
Transform: AWS::Serverless-2016-10-31
Parameters:
  Memory: {Type: Number, Default: 512, MinValue: 128, MaxValue: 1024}
  Affinity: {Type: String, Default: tenant, AllowedValues: [tenant, pool]}
  Prefix: {Type: String, Default: data, AllowedPattern: "^[a-z]+$"}
Mappings:
  Sizes: {tenant: {Tmp: 1024}, pool: {Tmp: 512}}
Conditions:
  Tenant: !Equals [!Ref Affinity, tenant]
  Pool: !Not [!Condition Tenant]
Globals:
  Function:
    Runtime: python3.13
    Handler: app.handler
    Timeout: 20
    Layers: [!Ref Library]
    Environment:
      Variables:
        STORE: !Sub "s3://${Bucket}/${Prefix}"
        SHARED: "yes"
Resources:
  Bucket: {Type: AWS::S3::Bucket}
  Library: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: layer/}}
  Role: {Type: AWS::IAM::Role, Properties: {Strange: !ImportValue nobody-asks-for-this}}
  Table: {Type: AWS::DynamoDB::Table}
  Search:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: !Sub ${AWS::StackName}-search
      MemorySize: !Ref Memory
      Role: !GetAtt Role.Arn
      EphemeralStorage: {Size: !FindInMap [Sizes, !Ref Affinity, Tmp]}
      ReservedConcurrentExecutions: !If [Pool, 3, !Ref AWS::NoValue]
      TenancyConfig: !If [Tenant, {TenantIsolationMode: PER_TENANT}, !Ref AWS::NoValue]
      EventInvokeConfig: {MaximumRetryAttempts: 0}
      LoggingConfig: {LogFormat: JSON}
      Environment:
        Variables:
          SHARED: no-longer
          OTHER: !GetAtt Front.Arn
          JOINED: !Join ["-", [!Select [1, !Split [".", "a.b.c"]], !Ref "AWS::Region"]]
          FLAG: true
  Front:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        Get: {Type: HttpApi, Properties: {Method: get, Path: "/things/{id}"}}
        Rest: {Type: HttpApi}
        Hourly: {Type: Schedule, Properties: {Schedule: rate(2 hours), Input: '{"index": "a"}'}}
        Nightly: {Type: ScheduleV2, Properties: {ScheduleExpression: "cron(0 3 * * ? *)"}}
        Never: {Type: Schedule, Properties: {Schedule: rate(1 day), Enabled: false}}
  PoolOnly:
    Type: AWS::Serverless::Function
    Condition: Pool
    Properties: {MemorySize: 128}
  Api: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP}}
  ToSearch:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !Ref Api, IntegrationUri: !GetAtt Search.Arn}
  SearchRoute:
    Type: AWS::ApiGatewayV2::Route
    Properties:
      RouteKey: POST /search
      AuthorizationType: AWS_IAM
      Target: !Sub integrations/${ToSearch}
"""


@pytest.fixture
def read(tmp_path):
    """Read a template given as text."""

    def read_text(text=TEMPLATE, **parameters):
        path = tmp_path / "template.yaml"
        path.write_text(text)
        return read_template(path, parameters=parameters)

    return read_text


def test_globals_parameters_and_conditions_give_a_function(read):
    function = read(Prefix="elsewhere").functions["squash-search"]
    assert (function.logical_id, function.memory_mb, function.timeout_s) == ("Search", 512, 20)
    assert (function.tmp_mb, function.reserved, function.per_tenant) == (1024, None, True)
    assert (function.async_attempts, function.json_logs) == (1, True)
    assert function.layers == ("Library",)
    assert function.environment == {
        "STORE": "s3://squash-bucket/elsewhere",
        "SHARED": "no-longer",
        "OTHER": "arn:aws:lambda:us-east-1:000000000000:function:squash-Front",
        "JOINED": "b-us-east-1",
        "FLAG": "true",
    }


def test_a_parameter_chooses_the_other_branch(read):
    template = read(Affinity="pool")
    function = template.functions["squash-search"]
    assert (function.tmp_mb, function.reserved, function.per_tenant) == (512, 3, False)
    assert "squash-PoolOnly" in template.functions
    assert "squash-PoolOnly" not in read().functions


def test_routes_of_events_and_written_out(read):
    assert read().routes == (
        Route("GET", "/things/{id}", "squash-Front"),
        Route("ANY", "$default", "squash-Front"),
        Route("POST", "/search", "squash-search", iam=True),
    )


def test_urls_are_settings_of_a_function_or_written_out(read):
    """SAM's own, and one that a condition lets be; one of nothing here is an error."""
    more = """
  Single:
    Type: AWS::Serverless::Function
    Properties: {FunctionUrlConfig: {AuthType: AWS_IAM}}
  Url:
    Type: AWS::Lambda::Url
    Condition: Tenant
    Properties:
      TargetFunctionArn: !GetAtt Single.Arn
      AuthType: !If [Tenant, NONE, AWS_IAM]
"""
    assert read(TEMPLATE + more).urls == (
        FunctionUrl("squash-Single", iam=True),
        FunctionUrl("squash-Single"),
    )
    assert len(read(TEMPLATE + more, Affinity="pool").urls) == 1
    with pytest.raises(InvalidArgumentError, match="no function of this template"):
        read(TEMPLATE + more.replace("!GetAtt Single.Arn", "elsewhere"))


def test_schedules_that_are_on(read):
    hourly, nightly = read().schedules
    assert (hourly.function, hourly.every_s, hourly.input) == (
        "squash-Front", 7200, '{"index": "a"}',
    )  # fmt: skip
    assert (nightly.expression, nightly.every_s) == ("cron(0 3 * * ? *)", None)


def test_what_does_not_run_here_is_named_and_not_resolved(read):
    assert read().left_out == ("Table (AWS::DynamoDB::Table)",)


def function(properties):
    return (
        "Resources: {F: {Type: AWS::Serverless::Function, Properties: "
        f"{{Runtime: python3.13, {properties}}}}}}}"
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (function("MemorySize: !ImportValue x"), "Resources.F.Properties.MemorySize"),
        (function("MemorySize: 64"), "Resources.F.Properties.MemorySize"),
        (function("MemorySize: !Ref Nothing"), "Resources.F.Properties.MemorySize.Ref"),
        (function("Timeout: 901"), "Resources.F.Properties.Timeout"),
        (function("Layers: [arn:aws:lambda:x:y]"), "Resources.F.Properties.Layers"),
        (function("Runtime: nodejs22.x"), "Resources.F.Properties.Runtime"),
        (function("Timeout: !If [Unknown, 1, 2]"), "Resources.F.Properties.Timeout.Fn::If"),
        (function("Handler: !GetAtt F.Color"), "Resources.F.Properties.Handler.Fn::GetAtt"),
        ("Parameters: {P: {Type: String}}", "Parameters.P"),
    ],
)
def test_what_is_not_understood_is_an_error_with_its_place(read, text, place):
    with pytest.raises(InvalidArgumentError) as caught:
        read(text)
    assert caught.value.field == place


@pytest.mark.parametrize(
    "parameters",
    [
        {"Affinity": "neither"}, {"Unknown": "1"}, {"Memory": "127"}, {"Memory": "1025"},
        {"Memory": "nan"}, {"Memory": "much"}, {"Prefix": "a b"},
    ],
)  # fmt: skip
def test_a_parameter_that_is_not_allowed_is_refused(read, parameters):
    with pytest.raises(InvalidArgumentError, match=next(iter(parameters))):
        read(**parameters)


A = "Resources.A.Properties"


@pytest.mark.parametrize(
    ("properties", "place"),
    [
        ("EphemeralStorage: 512", A),
        ("Environment: x", A),
        ("EventInvokeConfig: {MaximumRetryAttempts: x}", f"{A}.EventInvokeConfig"),
        ("ReservedConcurrentExecutions: -1", f"{A}.ReservedConcurrentExecutions"),
        ("Events: [1]", f"{A}.Events"),
        ("Events: {E: x}", f"{A}.Events.E"),
        ("Events: {E: {Type: Schedule, Properties: {Schedule: rate(0 hours)}}}", f"{A}.Events.E"),
        ("MemorySize: !Select [5, [1]]", f"{A}.MemorySize.Fn::Select"),
        ("MemorySize: !Select [-1, [128]]", f"{A}.MemorySize.Fn::Select"),
        ("Handler: !Join [x]", f"{A}.Handler.Fn::Join"),
        ("Handler: !If [Round, a, b]", "Conditions."),
        ("FunctionName: same", "Resources.B.Properties.FunctionName"),
    ],
)
def test_what_has_another_form_is_an_error_with_its_place(read, properties, place):
    """Not an error of Python's, nor another function than was meant."""
    text = f"""
Conditions: {{Round: !Not [!Condition About], About: !Not [!Condition Round]}}
Resources:
  A: {{Type: AWS::Serverless::Function, Properties: {{Runtime: python3.13, {properties}}}}}
  B: {{Type: AWS::Serverless::Function, Properties: {{Runtime: python3.13, FunctionName: same}}}}
"""
    with pytest.raises(InvalidArgumentError) as caught:
        read(text)
    assert caught.value.field.startswith(place)
    assert place in str(caught.value)


@pytest.mark.parametrize("text", ["Resources: [1]", "Resources: {A: x}"])
def test_resources_are_mappings(read, text):
    with pytest.raises(InvalidArgumentError, match="is to be a mapping"):
        read(text)


@pytest.mark.parametrize("value", ["inf", "nan", "5_12", "0x200", "\u0665\u0661\u0662"])
def test_a_number_is_written_as_cloudformation_takes_it(read, value):
    text = "Parameters: {N: {Type: Number}}\nResources: {}"
    with pytest.raises(InvalidArgumentError, match="is no number"):
        read(text, N=value)
    assert read(text, N="5.12e2").parameters == {"N": "5.12e2"}


def test_a_file_that_is_no_template_is_refused(read, tmp_path):
    for text in ("- a list", "a: [", "!Ref x: {"):
        with pytest.raises(InvalidArgumentError):
            read(text)
    with pytest.raises(NotFoundError, match="--template"):
        read_template(tmp_path / "nowhere.yaml")


MACHINE = """
Parameters: {Width: {Type: Number, Default: 7}}
Resources:
  Front:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      Environment: {Variables: {BY_REF: !Ref Machine, BY_ARN: !GetAtt Machine.Arn,
        NAME: !GetAtt Machine.Name}}
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      Name: !Sub ${AWS::StackName}-build
      Type: EXPRESS
      DefinitionUri: infra/machine.asl.yaml
      DefinitionSubstitutions: {Front: !GetAtt Front.Arn, Width: !Ref Width}
"""
DEFINITION = """
StartAt: A
States:
  A: {Type: Map, MaxConcurrency: ${Width}, Resource: "${Front}", Parameters: {x.$: $.x}}
"""


@pytest.fixture
def read_machine(read, tmp_path):
    """Read a template whose state machine's file holds a text."""

    def read_text(text=MACHINE, definition=DEFINITION):
        (tmp_path / "infra").mkdir(exist_ok=True)
        (tmp_path / "infra" / "machine.asl.yaml").write_text(definition)
        return read(text)

    return read_text


def test_a_state_machine_is_read_from_its_file_with_its_names_filled_in(read_machine):
    template = read_machine()
    (machine,) = template.state_machines
    assert (machine.logical_id, machine.name, machine.kind) == (
        "Machine",
        "squash-build",
        "EXPRESS",
    )
    front = template.functions["squash-Front"]
    state = json.loads(machine.definition)["States"]["A"]
    assert (state["MaxConcurrency"], state["Resource"]) == (7, front.arn)
    arn = "arn:aws:states:us-east-1:000000000000:stateMachine:squash-build"
    assert machine.arn == arn
    assert front.environment == {"BY_REF": arn, "BY_ARN": arn, "NAME": "squash-build"}
    assert template.left_out == ()


def test_a_state_machine_may_stand_in_the_template(read_machine):
    inline = "Definition: {StartAt: A, States: {A: {Resource: !GetAtt Front.Arn, N: '${Front}'}}}"
    (machine,) = read_machine(
        MACHINE.replace("DefinitionUri: infra/machine.asl.yaml", inline)
    ).state_machines
    state = json.loads(machine.definition)["States"]["A"]
    assert state["Resource"] == state["N"]
    assert state["N"].endswith(":function:squash-Front")
    assert machine.kind == "EXPRESS"
    assert read_machine(MACHINE.replace("Type: EXPRESS", "")).state_machines[0].kind == "STANDARD"


def test_what_a_definition_lacks_is_named(read_machine):
    for definition, words in (
        (DEFINITION + "\n# ${Nobody}", r"names \$\{Nobody\}"),
        ("[", "is not YAML"),
        ("[]", "is to be a mapping"),
    ):
        with pytest.raises(InvalidArgumentError, match=words) as caught:
            read_machine(definition=definition)
        assert "Resources.Machine.Properties.DefinitionUri" in str(caught.value)
    with pytest.raises(NotFoundError, match=r"there is no file .*absent"):
        read_machine(MACHINE.replace("infra/machine.asl.yaml", "absent"))
    with pytest.raises(InvalidArgumentError, match="is to name a file"):
        read_machine(MACHINE.replace("DefinitionUri: infra/machine.asl.yaml", ""))
