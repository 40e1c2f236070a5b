"""The cluster files are what their readers expect: Ray's own schema, and the rules of Compose and Kubernetes that a typo would break."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
SERVICE_KEYS = {
    *("image", "build", "command", "volumes", "ports", "environment", "depends_on", "healthcheck"),
    *("deploy", "entrypoint", "profiles", "restart", "shm_size", "user"),
}


def read(name: str):
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


def test_ray_takes_the_cluster_file():
    import ray

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    cluster = read("ray-cluster.yaml")
    jsonschema.validate(cluster, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**cluster, "no_such_key": 1}, schema)


def test_compose_services_use_known_keys_and_name_what_exists():
    compose = read("compose.yaml")
    services, volumes = compose["services"], compose["volumes"]
    assert {"head", "worker", "mlflow", "database"} <= services.keys()
    for name, service in services.items():
        assert service.keys() <= SERVICE_KEYS, name
        assert service.get("depends_on", {}).keys() <= services.keys()
        for waited, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in services[waited]
        for volume in service.get("volumes", ()):
            source = volume.rpartition("}")[2].partition(":")[0] or volume.partition(":")[0]
            assert source in volumes or volume.startswith("${LOBE_DATA"), volume


def test_every_service_that_drives_an_evaluation_knows_the_tracking_server():
    services = read("compose.yaml")["services"]
    for name in ("driver", "head"):  # the head runs what is handed over with --detach
        assert services[name]["environment"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"


def test_no_port_is_open_to_the_network_and_no_password_is_in_a_file():
    services = read("compose.yaml")["services"]
    for service in services.values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert services["database"]["environment"]["POSTGRES_PASSWORD"].startswith("${POSTGRES_PASSWORD:?")
    assert "://lobe:${POSTGRES_PASSWORD:?" in services["mlflow"]["command"]


def test_every_copied_folder_is_in_the_repository_and_none_that_the_wheel_needs_is_missing():
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    assert copied >= {"pyproject.toml", "constraints.txt", "benchmark", "tasks", "datasets", "backbones", "results"}
    assert next(line for line in lines if line.startswith("FROM")).startswith("FROM python:3.11")
    assert any(line == "USER lobe" for line in lines)


def test_every_package_the_image_installs_by_name_is_pinned():
    (install,) = (line for line in (DOCKER / "Dockerfile").read_text().splitlines() if "uv pip install" in line)
    _, constrained, named = install.partition("-c constraints.txt ")
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert constrained
    assert {"psycopg2-binary"} <= set(named.split()) - {"."} <= pinned


def test_kuberay_groups_mount_what_they_declare_and_ask_for_what_they_may_use():
    cluster = read("kuberay.yaml")
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())  # KubeRay takes text only
        pod = group["template"]["spec"]
        declared = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= declared
            assert container["resources"]["requests"] == container["resources"]["limits"]
            assert all(isinstance(value, str) for value in container["resources"]["limits"].values())
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert {"groupName", "template"} <= group.keys()


def test_no_node_but_the_head_decides_and_the_head_computes_nothing():
    assert "--num-cpus=0" in read("compose.yaml")["services"]["head"]["command"]
    assert any("--head" in line and "--num-cpus=0" in line for line in read("ray-cluster.yaml")["head_start_ray_commands"])
    assert read("kuberay.yaml")["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_driver_of_compose_has_a_node_of_ray_on_its_own_machine():
    shell, option, line = read("compose.yaml")["services"]["driver"]["entrypoint"]
    assert (shell, option) == ("sh", "-c")
    assert line.replace("$$", "$") == 'ray start --address=head:6379 --num-cpus=0 > /dev/null && exec "$0" "$@"'
