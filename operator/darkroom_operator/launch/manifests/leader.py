"""The EndpointSlice that points a Service without a selector at the leader."""

import ipaddress
from typing import Final

from darkroom_api.names import FIELD_MANAGER
from darkroom_operator.launch.manifests.common import Manifest
from darkroom_operator.settings import Settings

PORT_NAME: Final = "progress"
"""Name of the Service's port: an endpoint's port is found by it."""


def leader_slice(settings: Settings) -> Manifest:
    """The slice with this process as the only endpoint."""
    address = ipaddress.ip_address(settings.pod_ip)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{settings.progress_service}-leader",
            "namespace": settings.pod_namespace,
            "labels": {
                "kubernetes.io/service-name": settings.progress_service,
                # Kubernetes' own controllers leave slices alone that somebody else manages.
                "endpointslice.kubernetes.io/managed-by": FIELD_MANAGER,
            },
        },
        "addressType": f"IPv{address.version}",
        "endpoints": [
            {
                "addresses": [str(address)],
                "conditions": {"ready": True, "serving": True, "terminating": False},
                "targetRef": {
                    "kind": "Pod",
                    "namespace": settings.pod_namespace,
                    "name": settings.pod_name,
                },
            }
        ],
        "ports": [
            {"name": PORT_NAME, "port": settings.port, "protocol": "TCP", "appProtocol": "http"}
        ],
    }
