"""What a test must not find: a cluster, credentials, the caches and settings of the user."""

import os
import pathlib

# Of these tools even one that is called by mistake does harm: it submits jobs, or bills somebody.
SLURM = {"sbatch", "srun", "salloc", "squeue", "scancel", "sacct", "scontrol", "sinfo", "sstat"}
TOOLS = SLURM | {"gcloud", "gsutil", "aws", "kaggle"}
# How processes find each other, and how a program is known to a cloud.
PREFIXES = (
    *("SLURM_", "SBATCH_", "SRUN_", "SUBMITIT_", "OMPI_", "PMI_", "PMIX_"),
    *("JAX_", "XLA_", "TPU_", "CLOUD_TPU_", "LIBTPU_", "MEGASCALE_", "KUBERNETES_"),
    *("GOOGLE_", "GCLOUD_", "GCE_", "CLOUDSDK_", "AWS_", "AZURE_", "KAGGLE_", "HF_", "WANDB_", "TFDS_"),
)
# The data sets that the suite is given.
GIVEN = {"TFDS_DATA_DIR", "JAX_COMPILATION_CACHE_DIR"}


def seal(environment, folder):
    """Change ``environment`` so that programs find nothing of the user's in it; ``folder`` has what replaces that."""
    for name in list(environment):
        if name.startswith(PREFIXES) and name not in GIVEN:
            del environment[name]
    environment["PATH"] = os.pathsep.join(
        without_tools(pathlib.Path(place), folder / "bin" / str(number))
        for number, place in enumerate(environment.get("PATH", os.defpath).split(os.pathsep))
    )
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "MPLCONFIGDIR"):
        path = folder / name.lower()
        path.mkdir(parents=True, exist_ok=True)
        environment[name] = str(path)


def without_tools(place, links):
    """Return ``place``, a folder of PATH, or if it has one of ``TOOLS`` a folder of links to the rest of it."""
    if not any((place / tool).exists() for tool in TOOLS):
        return str(place)
    links.mkdir(parents=True)
    for file in place.iterdir():
        if file.name not in TOOLS:
            (links / file.name).symlink_to(file)
    return str(links)
