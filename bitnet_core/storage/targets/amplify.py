"""The S3 bucket of an Amplify app as a target: S3_BUCKET, or what the app's environment has for files.

Amplify itself keeps no files. An environment (generation 1) or a branch (generation 2) has a stack of CloudFormation;
its category `storage` is a stack inside that one, with the bucket.
"""

import contextlib
from collections.abc import Iterator

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.settings.storage import AmplifyOptions
from bitnet_core.storage.clients.aws import Aws
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Refused
from bitnet_core.storage.targets.s3 import S3Target, open_s3

_MOST_STACKS = 50
_STORAGE = "storage"


class _NotFound(BitnetError):
    """Amplify has no such environment."""


@contextlib.contextmanager
def opened(options: AmplifyOptions, keys: Keys) -> Iterator[S3Target]:
    """The target of these options. UsageError if they name neither a bucket nor an app."""
    bucket = options.bucket or _bucket_of(options, keys)
    with open_s3(keys, options.region or options.s3_region, options.endpoint) as s3:
        yield S3Target("amplify", s3, bucket, options.prefix)


def _bucket_of(options: AmplifyOptions, keys: Keys) -> str:
    if not options.app_id or not options.environment:
        raise UsageError(
            "STORAGE_BACKEND=amplify needs S3_BUCKET, or AMPLIFY_APP_ID and AMPLIFY_ENV; set them in .env."
        )
    region = options.region or options.s3_region
    needed = "amplify:GetBackendEnvironment and amplify:GetBranch, or set S3_BUCKET"
    with Aws("Amplify", "amplify", keys, region=region, permissions=needed) as amplify:
        stack = _stack_of(amplify, options.app_id, options.environment)
    needed = "cloudformation:ListStackResources, or set S3_BUCKET"
    with Aws("CloudFormation", "cloudformation", keys, region=region, permissions=needed) as formation:
        found = list(_buckets_of(formation, stack))
    if len(found) != 1:
        several = f"has the buckets {', '.join(found[:5])}" if found else "has no bucket for files"
        raise Refused(
            f"The environment {options.environment} of the Amplify app {options.app_id} {several}; set S3_BUCKET."
        )
    return found[0]


def _stack_of(amplify: Aws, app: str, environment: str) -> str:
    """The name of the environment's stack, or of the branch's."""
    missing = _NotFound()
    with contextlib.suppress(_NotFound):
        reply = amplify.call("get_backend_environment", {"NotFound": missing}, appId=app, environmentName=environment)
        if stack := reply.get("backendEnvironment", {}).get("stackName"):
            return str(stack)
    with contextlib.suppress(_NotFound):
        reply = amplify.call("get_branch", {"NotFound": missing}, appId=app, branchName=environment)
        if stack := reply.get("branch", {}).get("backend", {}).get("stackArn"):
            return str(stack)
    raise Refused(
        f"Amplify knows no backend {environment} of the app {app}; correct AMPLIFY_APP_ID, AMPLIFY_ENV and "
        "AMPLIFY_REGION, or set S3_BUCKET."
    )


def _buckets_of(formation: Aws, root: str) -> Iterator[str]:
    """The buckets in the stacks of the category `storage`. The bucket of deployments, in the root stack, is none."""
    waiting, seen = [(root, False)], {root}
    for stack, in_storage in waiting:
        pages = formation.pages(
            "list_stack_resources", "NextToken", lambda page: page.get("NextToken"), StackName=stack
        )
        for page in pages:
            for one in page.get("StackResourceSummaries", ()):
                kind, name = one.get("ResourceType"), one.get("PhysicalResourceId")
                if kind == "AWS::S3::Bucket" and name and in_storage:
                    yield str(name)
                elif kind == "AWS::CloudFormation::Stack" and name not in seen and len(seen) < _MOST_STACKS:
                    logical = str(one.get("LogicalResourceId", "")).lower()
                    seen.add(name)
                    waiting.append((str(name), in_storage or logical.startswith(_STORAGE)))
