"""`node.yaml`: its models and its loading."""

from dicom_node.config.load import InvalidConfigError, Problem, load_config
from dicom_node.config.schema import NodeConfig

__all__ = ["InvalidConfigError", "NodeConfig", "Problem", "load_config"]
