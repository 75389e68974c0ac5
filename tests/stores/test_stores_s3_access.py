"""When an environment says alone where and as whom S3 is asked, and what it says then."""

from __future__ import annotations

import pytest

from squash.errors import InvalidArgumentError
from squash.storage.s3_access import (
    Credentials,
    S3Access,
    access_of_environment,
    check_endpoint,
)

FUNCTION = {
    "AWS_ACCESS_KEY_ID": "ASIA",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_SESSION_TOKEN": "token",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
}


@pytest.fixture
def function(tmp_path) -> dict[str, str]:
    """The environment of a function, whose home has no files."""
    files = {"AWS_CONFIG_FILE": "config", "AWS_SHARED_CREDENTIALS_FILE": "credentials"}
    return FUNCTION | {name: str(tmp_path / file) for name, file in files.items()}


def asked(environment, *, endpoint_url=None, region=None) -> S3Access | None:
    return access_of_environment(environment, endpoint_url=endpoint_url, region=region)


def test_a_function_says_it_all(function):
    assert asked(function) == S3Access(
        "https://s3.eu-west-1.amazonaws.com",
        "eu-west-1",
        Credentials("ASIA", "secret", "token"),
        None,
    )
    del function["AWS_DEFAULT_REGION"]
    found = asked(function | {"AWS_SESSION_TOKEN": "", "AWS_CA_BUNDLE": "/ca"})
    assert found is not None
    assert (found.region, found.ca_bundle) == ("eu-west-1", "/ca")
    assert found.credentials == Credentials("ASIA", "secret", None)


def test_what_the_caller_says_goes_before(function):
    function |= {"AWS_ENDPOINT_URL": "http://all", "AWS_ENDPOINT_URL_S3": "http://s3"}
    found = asked(function, endpoint_url="http://here:1", region="us-east-2")
    assert found is not None
    assert (found.endpoint_url, found.region) == ("http://here:1", "us-east-2")
    found = asked(function)
    assert found is not None
    assert (found.endpoint_url, found.region) == ("http://s3", "eu-west-1")
    del function["AWS_ENDPOINT_URL_S3"]
    found = asked(function)
    assert found is not None
    assert found.endpoint_url == "http://all"


@pytest.mark.parametrize(
    "more",
    [
        {"AWS_ACCESS_KEY_ID": ""},
        {"AWS_SECRET_ACCESS_KEY": ""},
        {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""},
        {"AWS_PROFILE": "work"},
        {"AWS_DEFAULT_PROFILE": "work"},
        {"AWS_USE_FIPS_ENDPOINT": "true"},
        {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
        {"AWS_DEFAULT_REGION": "cn-north-1"},
        {"AWS_DEFAULT_REGION": "us-gov-west-1"},
        {"AWS_DEFAULT_REGION": "us-iso-east-1"},
        {"AWS_DEFAULT_REGION": "eusc-de-east-1"},
        {"AWS_DEFAULT_REGION": "aws-global"},
    ],
)
def test_what_only_botocore_knows(function, more):
    assert asked(function | more) is None


@pytest.mark.parametrize("file", ["config", "credentials"])
def test_files_have_a_say(function, tmp_path, file):
    (tmp_path / file).write_text("")
    assert asked(function) is None


@pytest.mark.parametrize(
    ("endpoint", "bucket", "expected"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "b-1", "https://b-1.s3.eu-west-1.amazonaws.com"),
        (
            "https://s3.cn-north-1.amazonaws.com.cn",
            "bkt",
            "https://bkt.s3.cn-north-1.amazonaws.com.cn",
        ),
        (
            "https://s3-fips.us-east-1.amazonaws.com",
            "bkt",
            "https://bkt.s3-fips.us-east-1.amazonaws.com",
        ),
        (
            "https://s3.dualstack.us-east-1.api.aws",
            "bkt",
            "https://bkt.s3.dualstack.us-east-1.api.aws",
        ),
    ],
)
def test_hosts_of_buckets(endpoint, bucket, expected):
    access = S3Access(endpoint, "r", Credentials("a", "b", None))
    assert access.bucket_url(bucket) == (expected, True)


@pytest.mark.parametrize(
    ("endpoint", "bucket"),
    [
        ("https://s3.eu-west-1.amazonaws.com", "with.dots"),  # no certificate covers it
        ("https://s3.eu-west-1.amazonaws.com", "Old_Name"),
        ("https://bucket.vpce-1-2.s3.eu-west-1.vpce.amazonaws.com", "bkt"),
        ("http://127.0.0.1:4566", "bkt"),
        ("https://s3.example.com", "bkt"),
    ],
)
def test_buckets_in_paths(endpoint, bucket):
    access = S3Access(endpoint + "/", "r", Credentials("a", "b", None))
    assert access.bucket_url(bucket) == (endpoint, False)


def test_another_region():
    credentials = Credentials("a", "b", None)
    own = S3Access("https://s3.eu-west-1.amazonaws.com", "eu-west-1", credentials)
    assert own.moved("us-east-2") == S3Access(
        "https://s3.us-east-2.amazonaws.com", "us-east-2", credentials
    )
    else_ = S3Access("http://host.eu-west-1.x:1", "eu-west-1", credentials)
    assert else_.moved("us-east-2") == S3Access(else_.endpoint_url, "us-east-2", credentials)


@pytest.mark.parametrize(
    "url", ["no url", "s3.example.com", "ftp://x", "http://", "http://x:port", ""]
)
def test_endpoints_that_are_none(url):
    with pytest.raises(InvalidArgumentError, match="http://host:port"):
        check_endpoint(url)


def test_endpoints():
    for url in (None, "http://127.0.0.1:9", "https://s3.example.com/", "http://[::1]:9"):
        check_endpoint(url)
