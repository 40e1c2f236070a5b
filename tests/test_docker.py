"""The cluster files are what their readers expect: Ray's own schema, and the rules of Compose and Kubernetes that a typo would break."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
SERVICE_KEYS = {
    *("image", "build", "command", "volumes", "ports", "environment", "depends_on", "healthcheck"),
    *("deploy", "entrypoint", "profiles", "restart", "shm_size", "user", "secrets", "networks", "security_opt", "cap_drop"),
}
SECRET = re.compile(r"password|passwd|token|secret", re.IGNORECASE)


def read(name: str):
    return yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))


def kuberay() -> tuple[dict, dict]:
    """The cluster, and who may speak to it."""
    cluster, policy = yaml.safe_load_all((DOCKER / "kuberay.yaml").read_text(encoding="utf-8"))
    return cluster, policy


def groups() -> list[dict]:
    spec = kuberay()[0]["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


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


def test_no_port_is_open_to_the_network():
    services = read("compose.yaml")["services"]
    for service in services.values():
        assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "--dashboard-host=127.0.0.1" in read("ray-cluster.yaml")["head_start_ray_commands"][1]


def test_no_secret_is_in_an_argument_a_variable_or_a_file():
    compose = read("compose.yaml")
    variables = {secret["environment"] for secret in compose["secrets"].values()}
    assert variables == {"RAY_TOKEN", "POSTGRES_PASSWORD", "MLFLOW_PASSWORD", "MLFLOW_SECRET_KEY"}
    for name, service in compose["services"].items():
        words = str([service.get("command"), service.get("entrypoint"), service.get("healthcheck")])
        assert not SECRET.search(words.replace("with-secrets", "")), name
        put_in = set(re.findall(r"\$\{?(\w+)", json.dumps(service)))
        assert not variables & put_in, f"{name}: a value would stand in what `docker inspect` shows"
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
        assert "@" not in re.sub(r"//[^:@/]*@", "//", str(service.get("environment"))), f"{name}: an address with a password"
    for name in ("kuberay.yaml", "ray-cluster.yaml", "slurm.sh", "Dockerfile"):
        text = (DOCKER / name).read_text(encoding="utf-8")
        assert not re.search(r"--from-literal|RAY_AUTH_TOKEN=|[0-9a-f]{32}", text), name


def test_every_secret_is_given_to_those_who_need_it_and_readable_for_their_user_alone():
    compose = read("compose.yaml")
    for name, service in compose["services"].items():
        user = service.get("user", "1000:1000").partition(":")[0]  # the image's own, or postgres
        for secret in service["secrets"]:
            assert (secret["uid"], secret["mode"]) == (user, 0o400), name
            assert secret["source"] in compose["secrets"]
    given = {name: {secret["source"] for secret in service["secrets"]} for name, service in compose["services"].items()}
    assert given["worker"] == {"ray_token"}
    assert given["database"] == {"postgres_password"}
    assert given["driver"] == given["head"] == {"ray_token", "mlflow_password"}
    assert given["mlflow"] == {"postgres_password", "mlflow_password", "mlflow_secret_key"}


def test_every_ray_asks_for_the_token():
    services = read("compose.yaml")["services"]
    for name in ("head", "worker", "driver"):
        assert services[name]["environment"].items() >= {
            ("RAY_AUTH_MODE", "token"),
            ("RAY_AUTH_TOKEN_PATH", "/run/secrets/ray_token"),
        }
    cluster, _ = kuberay()
    told = [container["env"] for group in groups() for container in group["template"]["spec"]["containers"]]
    for env in (*told, cluster["spec"]["autoscalerOptions"]["env"]):
        named = {entry["name"]: entry for entry in env}
        assert named["RAY_AUTH_MODE"]["value"] == "token"
        assert named["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "lobe-ray-token", "key": "auth_token"}
    launched = read("ray-cluster.yaml")
    assert "--env=RAY_AUTH_MODE=token" in launched["docker"]["run_options"]
    assert launched["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "export RAY_AUTH_MODE=token" in (DOCKER / "slurm.sh").read_text(encoding="utf-8").splitlines()
    assert "RAY_AUTH_MODE=token" in (DOCKER / "Dockerfile").read_text(encoding="utf-8")


def test_the_tracking_server_has_a_login_and_no_rights_and_the_database_is_behind_it():
    compose = read("compose.yaml")
    services = compose["services"]
    server, database = services["mlflow"], services["database"]
    assert server["command"].startswith("mlflow server --app-name basic-auth ")
    assert server["environment"]["MLFLOW_AUTH_CONFIG_PATH"] == "/opt/lobe/mlflow-auth.ini"
    assert {secret.get("target") for secret in server["secrets"]} == {
        "PGPASSWORD",
        "MLFLOW_AUTH_ADMIN_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
    }
    for name in ("driver", "head"):
        assert services[name]["environment"]["MLFLOW_TRACKING_USERNAME"] == server["environment"]["MLFLOW_AUTH_ADMIN_USERNAME"]
        assert "MLFLOW_TRACKING_PASSWORD" in {secret.get("target") for secret in services[name]["secrets"]}
    assert database["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert database["networks"] == ["storage"]
    assert compose["networks"]["storage"] == {"internal": True}
    assert [name for name, service in services.items() if "storage" in service.get("networks", ())] == ["mlflow", "database"]


def test_the_login_has_mlflows_own_settings_and_no_password():
    (package,) = importlib.util.find_spec("mlflow").submodule_search_locations
    known, ours = (configparser.ConfigParser() for _ in range(2))
    known.read(Path(package) / "server" / "auth" / "basic_auth.ini")
    ours.read(DOCKER / "mlflow-auth.ini")
    assert ours.sections() == known.sections() == ["mlflow"]
    assert set(known["mlflow"]) >= set(ours["mlflow"]) == {"default_permission", "database_uri", "authorization_function"}
    assert ours["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert ours["mlflow"]["authorization_function"] == known["mlflow"]["authorization_function"]


def test_nothing_runs_as_root_or_may_become_it_and_all_have_limits():
    services = read("compose.yaml")["services"]
    for name, service in services.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["deploy"]["resources"]["limits"].keys() == {"memory", "pids"}, name
        assert "privileged" not in service
        if service["image"] == "lobe":
            assert "user" not in service, f"{name}: the image's own, which is not root"
    assert services["database"]["user"] == "999:999"
    for group in groups():
        pod = group["template"]["spec"]
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 1000)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    scaler = kuberay()[0]["spec"]["autoscalerOptions"]
    assert scaler["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert scaler["resources"]["limits"]
    assert [group["template"]["spec"].get("automountServiceAccountToken") for group in groups()] == [None, False]
    assert {"--security-opt=no-new-privileges:true", "--cap-drop=ALL"} <= set(read("ray-cluster.yaml")["docker"]["run_options"])


def test_data_is_mounted_for_reading_only():
    for name, service in read("compose.yaml")["services"].items():
        for volume in service.get("volumes", ()):
            assert volume.endswith(":/data:ro") or ":/data" not in volume, name
    for group in groups():
        pod = group["template"]["spec"]
        (claim,) = [volume["persistentVolumeClaim"] for volume in pod["volumes"] if volume["name"] == "data"]
        assert claim == {"claimName": "lobe-data", "readOnly": True}
        for container in pod["containers"]:
            assert {"name": "data", "mountPath": "/data", "readOnly": True} in container["volumeMounts"]
    (data,) = [option for option in read("ray-cluster.yaml")["docker"]["run_options"] if ":/data" in option]
    assert data.endswith(":ro")


def test_only_the_clusters_own_pods_and_drivers_are_let_in():
    cluster, policy = kuberay()
    assert (policy["apiVersion"], policy["kind"]) == ("networking.k8s.io/v1", "NetworkPolicy")
    own = {"podSelector": {"matchLabels": {"ray.io/cluster": cluster["metadata"]["name"]}}}
    assert policy["spec"]["podSelector"] == own["podSelector"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    (rule,) = policy["spec"]["ingress"]
    assert rule == {"from": [own, {"podSelector": {"matchLabels": {"lobe.driver": "true"}}}]}  # of the same namespace: none is named


def test_every_foreign_image_can_be_pinned_and_the_file_says_how():
    images = {service["image"] for service in read("compose.yaml")["services"].values()} - {"lobe"}
    assert images == {"${POSTGRES_IMAGE:-postgres:17}"}
    assert read("compose.yaml")["services"]["head"]["build"]["args"] == {"PYTHON_IMAGE": "${PYTHON_IMAGE:-python:3.11-slim}"}
    for name in ("compose.yaml", "Dockerfile", "kuberay.yaml", "ray-cluster.yaml"):
        assert "@sha256:…" in (DOCKER / name).read_text(encoding="utf-8"), name


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name, text in {"PGPASSWORD": "a b'c\n", "ray_token": "hidden", "lower-case": "hidden"}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def with_secrets(folder: Path, *command: str) -> str:
    given = ["sh", str(DOCKER / "with-secrets.sh"), *command]
    return subprocess.run(
        given, env={"LOBE_SECRETS": str(folder), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    ).stdout


def test_mounted_secrets_become_variables_and_never_arguments(secrets: Path):
    program = "import os, sys; print(os.environ['PGPASSWORD'] + '|' + repr(sys.argv[1:]) + '|' + str('hidden' in os.environ.values()))"
    assert with_secrets(secrets, sys.executable, "-c", program, "an argument") == "a b'c|['an argument']|False\n"
    assert with_secrets(secrets / "absent", "echo", "started") == "started\n"


def test_every_copied_folder_is_in_the_repository_and_none_that_the_wheel_needs_is_missing():
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    copied = {name for name in copied if not name.startswith("--")}
    assert all((ROOT / name).exists() for name in copied)
    assert copied >= {"pyproject.toml", "constraints.txt", "benchmark", "tasks", "datasets", "backbones", "results"}
    assert [line for line in lines if line.startswith(("ARG", "FROM"))] == ["ARG PYTHON_IMAGE=python:3.11-slim", "FROM ${PYTHON_IMAGE}"]
    assert any(line == "USER 1000:1000" for line in lines)  # a number: Kubernetes cannot tell by a name that it is not root


def kept_out(path: str) -> bool:
    """Whether .dockerignore keeps a file out: by Docker's rules, where the last pattern that names it or a folder above it decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        expression = re.escape(pattern.lstrip("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
        parts = path.split("/")
        if any(re.fullmatch(expression, "/".join(parts[:n])) for n in range(1, len(parts) + 1)):
            out = not pattern.startswith("!")
    return out


def test_an_image_holds_what_the_repository_does_and_nothing_that_lies_in_it_by_chance():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1] if not word.startswith("--")]
    needed = [path for path in tracked if any(path == name or path.startswith(f"{name}/") for name in copied)]
    assert len(needed) > 200
    assert [path for path in needed if kept_out(path)] == []
    by_chance = [
        *("data/rsna/a.dcm", ".git/config", ".venv/bin/python", ".env", "docker/.env", "id_ed25519", "lobe-out/records/a.json"),
        *("results/records/a.json", "results/predictions/a/statistics.json", "results/mlflow.db", "results/published/a.json"),
        *("datasets/jsrt/a.IMG", "datasets/a.csv", "backbones/weights.pt", "benchmark/.env", "benchmark/__pycache__/api.cpython-311.pyc"),
        *("benchmark/__pycache__/left.py", "tests/test_api.py", "shared/data/a.png"),
    ]
    assert [path for path in by_chance if not kept_out(path)] == []


def test_every_package_the_image_installs_by_name_is_pinned():
    (install,) = (line for line in (DOCKER / "Dockerfile").read_text().splitlines() if "uv pip install" in line)
    _, constrained, named = install.partition("-c constraints.txt ")
    pinned = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert constrained
    assert {"psycopg2-binary", "flask-wtf"} <= set(named.split()) - {"'.[all]'"} <= pinned


def test_kuberay_groups_mount_what_they_declare_and_ask_for_what_they_may_use():
    cluster, _ = kuberay()
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    for group in groups():
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
    assert kuberay()[0]["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_driver_of_compose_has_a_node_of_ray_on_its_own_machine():
    starter, shell, option, line = read("compose.yaml")["services"]["driver"]["entrypoint"]
    assert (starter, shell, option) == ("with-secrets", "sh", "-c")
    assert line.replace("$$", "$") == 'ray start --address=head:6379 --num-cpus=0 > /dev/null && exec "$0" "$@"'
