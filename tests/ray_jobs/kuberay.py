"""The part of KubeRay's RayJob that rayjob.yaml uses, as strict models in our own words.

They follow the v1 API reference of KubeRay v1.6.2 (docs/reference/api.md there), the CRD's yaml,
and the operator's further checks (ray-operator/controllers/ray/utils/validation.go). The first
release whose notes name token authentication of a RayJob is v1.5.1. The keys of a pod are
Kubernetes' own part, which the CRD embeds. A key without a default here is one that we require,
whatever the CRD allows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$")]
Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[mkMGTPE])?$")] | int
Absolute = Annotated[str, Field(pattern=r"^/")]
Count = Annotated[int, Field(ge=0)]


class Block(BaseModel, extra="forbid", strict=True):
    """A mapping with no other keys than these; 1 is not "1" and "1" is not 1."""


class Variable(Block):
    name: str
    value: str


class Mount(Block):
    name: Name
    mountPath: Absolute
    readOnly: bool = False


class Resources(Block):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Capabilities(Block):
    drop: list[str]


class ContainerSecurity(Block):
    allowPrivilegeEscalation: bool
    capabilities: Capabilities


class Port(Block):
    name: Name
    containerPort: int


class Container(Block):
    name: Name
    image: str
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"]
    securityContext: ContainerSecurity
    ports: list[Port] = []
    env: list[Variable]
    resources: Resources
    volumeMounts: list[Mount]


class Seccomp(Block):
    type: Literal["RuntimeDefault", "Unconfined", "Localhost"]


class PodSecurity(Block):
    runAsNonRoot: bool
    runAsUser: int
    runAsGroup: int
    fsGroup: int
    fsGroupChangePolicy: Literal["OnRootMismatch", "Always"]
    seccompProfile: Seccomp


class Claim(Block):
    claimName: Name
    readOnly: bool = False


class EmptyDir(Block):
    medium: Literal["", "Memory"]
    sizeLimit: Quantity


class Volume(Block):
    name: Name
    persistentVolumeClaim: Claim | None = None
    emptyDir: EmptyDir | None = None


class Toleration(Block):
    key: str
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]


class PodSpec(Block):
    nodeSelector: dict[str, str] = {}
    priorityClassName: Name | None = None
    runtimeClassName: Name | None = None
    terminationGracePeriodSeconds: Count
    automountServiceAccountToken: bool
    enableServiceLinks: bool
    securityContext: PodSecurity
    tolerations: list[Toleration] = []
    containers: list[Container] = Field(min_length=1, max_length=1)
    volumes: list[Volume]

    @model_validator(mode="after")
    def _mounts_have_volumes(self) -> PodSpec:
        mounted = {mount.name for mount in self.containers[0].volumeMounts}
        if mounted != {volume.name for volume in self.volumes}:
            raise ValueError("mounts and volumes differ")
        return self


class Template(Block):
    spec: PodSpec


class Head(Block):
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    enableIngress: bool
    rayStartParams: dict[str, str]
    template: Template


class Workers(Block):
    groupName: Name
    replicas: Count
    minReplicas: Count
    maxReplicas: Count
    rayStartParams: dict[str, str]
    template: Template


class Auth(Block):
    mode: Literal["disabled", "token"]


class Cluster(Block):
    rayVersion: str
    authOptions: Auth
    headGroupSpec: Head
    workerGroupSpecs: list[Workers]


class JobSpec(Block):
    jobId: Name
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    backoffLimit: Count
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: Count
    rayClusterSpec: Cluster

    @model_validator(mode="after")
    def _lifetime_needs_a_shutdown(self) -> JobSpec:
        if self.ttlSecondsAfterFinished and not self.shutdownAfterJobFinishes:
            raise ValueError("ttlSecondsAfterFinished without shutdownAfterJobFinishes")
        return self


class Metadata(Block):
    name: Name


class RayJob(Block):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


class OneOfEachKey(yaml.SafeLoader):
    """A loader that refuses a repeated key, as Kubernetes does and PyYAML does not."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, f"key twice in {keys}")
        return super().construct_mapping(node, deep)


def rayjob(text: str) -> RayJob:
    return RayJob.model_validate(yaml.load(text, OneOfEachKey))
