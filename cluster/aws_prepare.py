"""What `aws.yaml` needs in an AWS account, made once; where it is there already, rights and rules are put right.

    python cluster/aws_prepare.py --region eu-central-1 --bucket BUCKET --ssh-from 203.0.113.7/32

- roles and instance profiles `facex-head` (may start instances in this region, hand them the workers' profile, and end
  those of the cluster) and `facex-worker`; both read and write the one bucket, and no other;
- a security group `facex`: its members reach each other, and SSH is open to the addresses named here alone. Ray's own
  group would open SSH to the world.

Prints the line to put into `aws.yaml`. Needs boto3 and credentials that may do all this.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import sys
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.exceptions import ClientError

CLUSTER, HEAD, WORKER, GROUP = "facex", "facex-head", "facex-worker", "facex"
CHANGES = ["TerminateInstances", "StopInstances", "StartInstances", "CreateTags", "DeleteTags"]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--region", required=True)
    asked.add_argument("--bucket", required=True, help="of --storage s3://BUCKET/runs")
    asked.add_argument("--ssh-from", required=True, type=_network, help="your address, such as 203.0.113.7/32")
    asked.add_argument("--vpc", help="default: the region's default VPC")
    said = asked.parse_args()
    iam, ec2 = boto3.client("iam", region_name=said.region), boto3.client("ec2", region_name=said.region)
    worker = _role(iam, WORKER, _bucket(said.bucket))
    _role(iam, HEAD, [*_bucket(said.bucket), *_launching(said.region, worker)])
    with _there_already("InvalidInput", "EntityAlreadyExists"):  # an account's first spot instance needs it
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    group = _security_group(ec2, said.vpc or _default_vpc(ec2), said.ssh_from)
    print(f"region: {said.region}\nSecurityGroupIds: [{group}]")


def _network(text: str) -> str:
    network = ipaddress.IPv4Network(text)
    if network.prefixlen == 0:
        raise argparse.ArgumentTypeError(f"{text} is the whole world")
    return str(network)


def _bucket(bucket: str) -> list[dict[str, Any]]:
    arn = f"arn:aws:s3:::{bucket}"
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [_allow(["s3:ListBucket", "s3:GetBucketLocation"], arn), _allow(objects, f"{arn}/*")]


def _launching(region: str, worker_role: str) -> list[dict[str, Any]]:
    """What Ray's autoscaler asks of EC2. It changes nothing but what carries the cluster's tag, or is being made."""
    here = {"aws:RequestedRegion": region}
    return [
        _allow(["ec2:Describe*"], "*"),
        _allow(["ec2:RunInstances"], "*", here),
        _allow(["ec2:CreateTags"], "*", here | {"ec2:CreateAction": "RunInstances"}),
        _allow([f"ec2:{action}" for action in CHANGES], "*", here | {"aws:ResourceTag/ray-cluster-name": CLUSTER}),
        _allow(["iam:PassRole"], worker_role),
    ]


def _allow(actions: list[str], resource: str, where: dict[str, str] | None = None) -> dict[str, Any]:
    condition = {} if where is None else {"Condition": {"StringEquals": where}}
    return {"Effect": "Allow", "Action": actions, "Resource": resource, **condition}


def _role(iam: Any, name: str, statements: list[dict[str, Any]]) -> str:
    """The role's ARN; an instance profile of the same name holds it."""
    ec2 = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    with _there_already("EntityAlreadyExists"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=_policy([ec2]))
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=_policy(statements))
    with _there_already("EntityAlreadyExists"):
        iam.create_instance_profile(InstanceProfileName=name)
    with _there_already("LimitExceeded"):  # a profile holds one role
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def _policy(statements: list[dict[str, Any]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


def _default_vpc(ec2: Any) -> str:
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise SystemExit("error: this region has no default VPC; name one with --vpc")
    return str(found[0]["VpcId"])


def _security_group(ec2: Any, vpc: str, ssh_from: str) -> str:
    filters = [{"Name": "group-name", "Values": [GROUP]}, {"Name": "vpc-id", "Values": [vpc]}]
    found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    group = found[0] if found else ec2.create_security_group(GroupName=GROUP, Description="facex_tune", VpcId=vpc)
    own = str(group["GroupId"])
    within = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": own}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]}
    for rule in (within, ssh):
        with _there_already("InvalidPermission.Duplicate"):
            ec2.authorize_security_group_ingress(GroupId=own, IpPermissions=[rule])
    _close_ssh(ec2, own, ssh_from)
    return own


def _close_ssh(ec2: Any, group: str, still_from: str) -> None:
    """Lets nobody log in from elsewhere any more: an address that was yours last month is somebody else's now."""
    [found] = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    for rule in found["IpPermissions"]:
        if rule.get("FromPort") != 22 or rule.get("ToPort") != 22:
            continue
        others = [each["CidrIp"] for each in rule.get("IpRanges", []) if each["CidrIp"] != still_from]
        wide = [each["CidrIpv6"] for each in rule.get("Ipv6Ranges", [])]
        if others or wide:
            gone = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22}
            gone |= {"IpRanges": [{"CidrIp": each} for each in others]} if others else {}
            gone |= {"Ipv6Ranges": [{"CidrIpv6": each} for each in wide]} if wide else {}
            ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[gone])
            print(f"ssh is no longer let in from {', '.join([*others, *wide])}", file=sys.stderr)


@contextlib.contextmanager
def _there_already(*codes: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


if __name__ == "__main__":
    main()
