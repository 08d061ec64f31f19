"""`node.yaml`: its models and its loading."""

from dicom_node.config.load import (
    InvalidConfigError,
    Problem,
    config_of_text,
    load_config,
    read_text,
)
from dicom_node.config.schema import NodeConfig

__all__ = [
    "InvalidConfigError",
    "NodeConfig",
    "Problem",
    "config_of_text",
    "load_config",
    "read_text",
]
