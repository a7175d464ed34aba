# The image of the sidecar and of all its commands. Build it by `make image` (docs/image.md): that resolves the base's
# digest and records it. The default here is a tag, since a digest belongs to the day of the build; `make image` and the
# release workflow pass `PYTHON_IMAGE=tag@digest`, and label what they built on.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS build
# Names of extras, with a space between: a lock in requirements/ for each.
ARG EXTRAS=""
# Seconds since 1970 of the commit that is built: all that bears a date gets this one, so that two builds are equal.
ARG SOURCE_DATE_EPOCH=0
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

# Wheels come with symbols: without them the packages are less than half the size. A base that has `strip` needs no apt.
# hadolint ignore=DL3008
RUN command -v strip >/dev/null || { \
      apt-get update -qq && \
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends binutils && \
      rm -rf /var/lib/apt/lists/*; }

# pip and the SBOM's maker stay in an environment of their own, which the image does not get.
# The secret `pip` is a pip.conf, for those whose packages come from a mirror; without it pip does as the base says.
COPY requirements/image.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv /tools && \
    /tools/bin/pip install --require-hashes --only-binary :all: -r requirements/image.lock

COPY requirements/runtime.lock requirements/extra-*.lock requirements/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/model-sidecar && \
    for lock in runtime ${EXTRAS:+$(printf 'extra-%s ' ${EXTRAS})}; do \
      /tools/bin/pip --python /opt/model-sidecar/bin/python install \
        --require-hashes --no-compile --only-binary :all: -r "requirements/$lock.lock" || exit 1; \
    done

COPY pyproject.toml README.md LICENSE ./
COPY tools/image-tree tools/image-bytecode tools/
COPY sidecar/ sidecar/
RUN /tools/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /wheel . && \
    /tools/bin/pip --python /opt/model-sidecar/bin/python install \
      --no-index --find-links /wheel --no-deps --no-compile model-sidecar && \
    tools/image-tree /tools /opt/model-sidecar /tree

# For the SBOM beside the image: `--target sbom --output build/image`.
FROM scratch AS sbom
COPY --from=build /tree/usr/share/sbom/ /

FROM ${PYTHON_IMAGE}
# Nothing is installed into a running sidecar; what is not there has no vulnerabilities to report either.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip \
           /usr/lib/python3.*/ensurepip
COPY --from=build /tree/ /
# The root may be read-only: no bytecode is written, and nothing needs /tmp. Logs and events leave line by line.
ENV PATH=/opt/model-sidecar/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
ARG PYTHON_IMAGE
ARG VERSION=unversioned
ARG REVISION=unknown
ARG SOURCE=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="model-sidecar" \
      org.opencontainers.image.description="A proxy beside each pod that pins LLM model names to immutable models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${PYTHON_IMAGE}"
# A number, so that kubelet can tell that it is not root. 65532 has no name and no home in the image, and needs none.
USER 65532:65532
WORKDIR /
# Exec form: the sidecar is process 1 and gets SIGTERM itself. It starts no process, so it needs no init.
ENTRYPOINT ["sidecar"]
CMD ["serve", "--config", "/etc/model-sidecar/config/sidecar.yaml"]
