"""How Amplify's bucket is found. No emulator has Amplify, so botocore's Stubber judges requests and replies."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from bitnet_core.errors import UsageError
from bitnet_core.settings.storage import AmplifyOptions
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Refused
from bitnet_core.storage.targets import amplify
from tests.storage.stands.s3 import KEYS

APP = {"appId": "d123", "environmentName": "dev"}
BRANCH = {"appId": "d123", "branchName": "dev"}
OPTIONS = AmplifyOptions(app_id="d123", environment="dev", region="eu-central-1", prefix="p/")
ROOT = "arn:aws:cloudformation:eu-central-1:1:stack/amplify-d123-dev/1"
TIME = "2026-11-27T00:00:00Z"


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Stubber]]:
    """A stub for each service; what was told and not asked for fails the test."""
    made: dict[str, Stubber] = {}
    create: Callable[..., Any] = boto3.session.Session.client

    for service in ("amplify", "cloudformation"):
        client = boto3.client(
            service, region_name="eu-central-1", aws_access_key_id="AKIDFORTESTS", aws_secret_access_key="x"
        )
        made[service] = Stubber(client)
        made[service].activate()

    def stubbed(self: Any, service: str, **given: Any) -> Any:
        assert given["region_name"] == "eu-central-1"
        return made[service].client if service in made else create(self, service, **given)

    monkeypatch.setattr(boto3.session.Session, "client", stubbed)
    yield made
    for stub in made.values():
        stub.assert_no_pending_responses()


def resource(kind: str, logical: str, physical: str) -> dict[str, Any]:
    return {
        "ResourceType": f"AWS::{kind}",
        "LogicalResourceId": logical,
        "PhysicalResourceId": physical,
        "LastUpdatedTimestamp": TIME,
        "ResourceStatus": "CREATE_COMPLETE",
    }


def stack(stub: Stubber, name: str, *resources: dict[str, Any], token: str = "", more: str = "") -> None:
    reply: dict[str, Any] = {"StackResourceSummaries": list(resources), **({"NextToken": more} if more else {})}
    stub.add_response("list_stack_resources", reply, {"StackName": name, **({"NextToken": token} if token else {})})


def generation_1(stub: Stubber, name: str = "amplify-app-dev-1") -> None:
    environment = {
        "backendEnvironmentArn": "arn:1", "environmentName": "dev", "stackName": name,
        "deploymentArtifacts": "amplify-app-dev-1-deployment", "createTime": TIME, "updateTime": TIME,
    }  # fmt: skip
    stub.add_response("get_backend_environment", {"backendEnvironment": environment}, APP)


def place() -> str:
    with amplify.opened(OPTIONS, Keys(KEYS)) as target:
        return target.place


def test_the_bucket_of_an_environment_is_found_and_not_that_of_its_deployments(stubs: dict[str, Stubber]) -> None:
    generation_1(stubs["amplify"])
    formation = stubs["cloudformation"]
    deployment = resource("S3::Bucket", "DeploymentBucket", "amplify-app-dev-1-deployment")
    auth = resource("CloudFormation::Stack", "authapp", "arn:auth")
    storage = resource("CloudFormation::Stack", "storagefiles", "arn:storage")
    stack(formation, "amplify-app-dev-1", deployment, auth, more="t")
    stack(formation, "amplify-app-dev-1", storage, token="t")
    stack(formation, "arn:auth", resource("S3::Bucket", "Other", "not-for-files"))
    stack(formation, "arn:storage", resource("S3::Bucket", "S3Bucket", "files-of-dev"))
    assert place() == "s3://files-of-dev/p/"


def test_the_bucket_of_a_branch_is_found(stubs: dict[str, Stubber]) -> None:
    stubs["amplify"].add_client_error("get_backend_environment", "NotFoundException", http_status_code=404)
    branch = {
        "branchArn": "arn:b", "branchName": "dev", "description": "", "stage": "DEVELOPMENT", "displayName": "dev",
        "enableNotification": False, "createTime": TIME, "updateTime": TIME, "environmentVariables": {},
        "enableAutoBuild": True, "customDomains": [], "framework": "", "activeJobId": "", "totalNumberOfJobs": "1",
        "enableBasicAuth": False, "ttl": "5", "enablePullRequestPreview": False,
        "backend": {"stackArn": ROOT},
    }  # fmt: skip
    stubs["amplify"].add_response("get_branch", {"branch": branch}, BRANCH)
    formation = stubs["cloudformation"]
    stack(formation, ROOT, resource("CloudFormation::Stack", "storage0EC3F24A", "arn:storage"))
    stack(formation, "arn:storage", resource("CloudFormation::Stack", "Inner", "arn:inner"))
    stack(formation, "arn:inner", resource("S3::Bucket", "FilesBucket1", "files-of-branch"))
    assert place() == "s3://files-of-branch/p/"


def test_an_app_that_is_not_there_is_refused(stubs: dict[str, Stubber]) -> None:
    for operation in ("get_backend_environment", "get_branch"):
        stubs["amplify"].add_client_error(operation, "NotFoundException", http_status_code=404)
    with pytest.raises(Refused, match="knows no backend dev of the app d123; correct AMPLIFY_APP_ID"):
        place()


@pytest.mark.parametrize(("buckets", "said"), [((), "no bucket"), (("one", "two"), "the buckets one, two")])
def test_without_exactly_one_bucket_the_user_is_asked(
    stubs: dict[str, Stubber], buckets: tuple[str, ...], said: str
) -> None:
    generation_1(stubs["amplify"], "root")
    circle = resource("CloudFormation::Stack", "storageagain", "root")
    stack(stubs["cloudformation"], "root", resource("CloudFormation::Stack", "storage1", "inner"), circle)
    stack(stubs["cloudformation"], "inner", circle, *(resource("S3::Bucket", name, name) for name in buckets))
    with pytest.raises(Refused, match=f"{said}.*; set S3_BUCKET"):
        place()


def test_a_key_that_may_not_ask_amplify_is_told_so(stubs: dict[str, Stubber]) -> None:
    stubs["amplify"].add_client_error("get_backend_environment", "AccessDeniedException", http_status_code=403)
    with pytest.raises(Refused, match="amplify:GetBackendEnvironment and amplify:GetBranch, or set S3_BUCKET"):
        place()


def test_a_bucket_that_is_given_is_taken_without_asking(stubs: dict[str, Stubber]) -> None:
    given = AmplifyOptions(app_id="d123", environment="dev", region="eu-central-1", bucket="mine", prefix="")
    with amplify.opened(given, Keys(KEYS)) as target:
        assert target.place == "s3://mine/"


def test_neither_a_bucket_nor_an_app_is_a_mistake_in_the_settings() -> None:
    with (
        pytest.raises(UsageError, match="S3_BUCKET, or AMPLIFY_APP_ID"),
        amplify.opened(AmplifyOptions(), Keys(KEYS)),
    ):
        pass
