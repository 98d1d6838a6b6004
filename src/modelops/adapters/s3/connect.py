"""The connection to S3."""

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from modelops.contracts.errors import InvalidInput


def connect(
    *, endpoint: str | None, access_key: str | None, secret_key: str | None, region: str, path_style: bool
) -> Any:
    """Return a client of S3; nothing is sent yet.

    Args:
        endpoint: The service's URL; none means Amazon's.
        access_key, secret_key: Both, or neither: then boto3 looks where it always looks.
        region: Of the bucket.
        path_style: Put the bucket into the path of a URL rather than before the host's name.

    Raises:
        InvalidInput: these cannot be the settings of a connection.
    """
    if (access_key is None) != (secret_key is None):
        raise InvalidInput("One of S3_ACCESS_KEY and S3_SECRET_KEY is set.", hint="Set both, or neither.")
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if path_style else "auto"},
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=5,
        read_timeout=60,
        max_pool_connections=64,
        # Not every store knows the newer checksums; every content is verified by its digest anyway.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    try:
        return boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name=region,
            config=config,
        )
    except (BotoCoreError, ValueError) as wrong:
        raise InvalidInput(f"The settings of S3 are not valid: {wrong}.", hint="Check S3_ENDPOINT.") from wrong
