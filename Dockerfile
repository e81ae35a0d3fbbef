# syntax=docker/dockerfile:1
# The three images of darkroom, one target each:
#   docker build --target operator --tag darkroom/operator:0.1.0 .
#   docker build --target trainer  --tag darkroom/trainer:0.1.0 .
#   docker build --target serving  --tag darkroom/serving:0.1.0 .
# Each is requirements/TARGET.txt (pinned, with hashes) and darkroom's own wheel in a virtual environment,
# copied onto the bare Python image: compilers, pip and sources stay behind. No image needs root, a
# writable root file system or a home: /tmp is all they write to. Pin the base by digest with
#   --build-arg PYTHON_IMAGE=python:3.11-slim@sha256:…
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/darkroom/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# A name for the user: torch and Ray ask for it.
RUN useradd --uid 65532 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin darkroom

# An empty environment, and the pip of the base image to fill it with.
FROM ${PYTHON_IMAGE} AS environment
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/darkroom

# darkroom's own wheel. The build backend comes from the same pinned set as everything else.
FROM environment AS wheel
COPY requirements/dev.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    awk '/^[^ ]/ { keep = /^(hatchling|packaging|pathspec|pluggy|tomlkit|trove-classifiers)==/ } keep' \
      requirements/dev.txt > requirements/build.txt \
    && pip install --require-hashes --no-deps --only-binary :all: -r requirements/build.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY crds crds
COPY local local
COPY sampling sampling
COPY operator operator
COPY trainer trainer
COPY serving serving
COPY cli cli
COPY miniature miniature
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM environment AS operator-environment
COPY requirements/operator.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/darkroom/bin/python install --require-hashes --no-deps --only-binary :all: \
      -r requirements/operator.txt
# The miniature's weights are the trainer's and the server's.
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip --python /opt/darkroom/bin/python install --no-cache-dir --no-deps /wheels/darkroom-*.whl \
    && rm -rf /opt/darkroom/share/darkroom

# g++ compiles DeepSpeed's CPU communication extension into the installed package, so that nothing
# is compiled in a pod. DeepSpeed is built against the torch that it will run with, hence apart.
FROM environment AS trainer-environment
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/trainer.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    awk '/^[^ ]/ { keep = !/^(deepspeed|hjson)==/ } keep' requirements/trainer.txt > requirements/wheels.txt \
    && awk '/^[^ ]/ { keep = /^(deepspeed|hjson)==/ } keep' requirements/trainer.txt > requirements/sources.txt \
    && pip --python /opt/darkroom/bin/python install --require-hashes --no-deps --only-binary :all: \
      -r requirements/wheels.txt
RUN DS_ACCELERATOR=cpu DS_BUILD_SHM_COMM=1 PATH=/opt/darkroom/bin:$PATH \
    pip --python /opt/darkroom/bin/python install --require-hashes --no-deps --no-build-isolation \
      --no-cache-dir -r requirements/sources.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip --python /opt/darkroom/bin/python install --no-cache-dir --no-deps /wheels/darkroom-*.whl

FROM environment AS serving-environment
COPY requirements/serving.txt requirements/
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/darkroom/bin/python install --require-hashes --no-deps --only-binary :all: \
      -r requirements/serving.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip --python /opt/darkroom/bin/python install --no-cache-dir --no-deps /wheels/darkroom-*.whl

# What both Ray images have; Ray's processes are started by KubeRay with bash.
FROM base AS ray
ENV HF_HUB_DISABLE_TELEMETRY=1 \
    RAY_USAGE_STATS_ENABLED=0
# libgomp1: DeepSpeed's extension. wget: KubeRay's readiness probe of Ray Serve's replicas.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 wget \
    && rm -rf /var/lib/apt/lists/*

FROM base AS operator
LABEL org.opencontainers.image.title="darkroom operator" \
      org.opencontainers.image.description="Watches PersonalizationJobs and launches Ray jobs for them" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=operator-environment /opt/darkroom /opt/darkroom
WORKDIR /tmp
USER 65532:65532
# 8080 probes and progress, 9090 metrics
EXPOSE 8080 9090
ENTRYPOINT ["python", "-m", "darkroom_operator"]

FROM ray AS trainer
LABEL org.opencontainers.image.title="darkroom trainer" \
      org.opencontainers.image.description="DreamBooth on Ray Train and DeepSpeed" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=trainer-environment /opt/darkroom /opt/darkroom
WORKDIR /tmp
USER 65532:65532
CMD ["darkroom", "train", "--help"]

FROM ray AS serving
LABEL org.opencontainers.image.title="darkroom serving" \
      org.opencontainers.image.description="Guided generation and classification on Ray Serve" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=serving-environment /opt/darkroom /opt/darkroom
WORKDIR /tmp
USER 65532:65532
EXPOSE 8000
CMD ["darkroom", "serve", "--help"]
