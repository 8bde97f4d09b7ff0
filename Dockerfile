# Two stages: the first has pip and compiles bytecode, the second has only what runs.
# Where the official images and the Python package index are not reached, name mirrors:
#   --build-arg REGISTRY=registry.example.com/library --build-arg PIP_INDEX_URL=https://pypi.example.com/simple
ARG REGISTRY=docker.io/library
FROM ${REGISTRY}/python:3.13-slim@sha256:6771159cd4fa5d9bba1258caf0b82e6b73458c694d178ad97c5e925c2d0e1a91 AS build
ARG PIP_INDEX_URL
COPY requirements.lock scripts/image-root /build/
# Locked versions, checked hashes, no packages built here; pip stays outside of the venv.
RUN python -m venv --without-pip /app \
 && pip --python /app/bin/python install --no-cache-dir --no-compile --no-deps --only-binary :all: \
      --require-hashes --disable-pip-version-check --root-user-action ignore -r /build/requirements.lock \
 && python /build/image-root /root-of-image /app
# The program, in a directory of its own: a change of it is a small layer on top of the one above. It comes without the
# sandbox (.dockerignore), which needs a server binary that the image does not have.
COPY bootstrap /program/bootstrap
RUN site=$(/app/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && mkdir -p "/code$site" /code/app/bin && cp -r /program/bootstrap "/code$site/" \
 && printf '#!/app/bin/python -IB\nfrom bootstrap.__main__ import main\n\nraise SystemExit(main())\n' \
      >/code/app/bin/redis-cluster-bootstrap \
 && chmod -R a+rX,go-w /code && chmod 755 /code/app/bin/redis-cluster-bootstrap \
 && python -m compileall -q --invalidation-mode unchecked-hash -s /code "/code$site"

FROM scratch
LABEL org.opencontainers.image.title="redis-cluster-bootstrap" \
      org.opencontainers.image.description="Forms a Redis or Valkey Cluster from the pods of a StatefulSet, verifies it and exits" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /root-of-image/ /
COPY --from=build /code/ /
ENV PATH=/app/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1
# A numeric user, so that Kubernetes can check that it is not root; any other user works as well.
USER 65532:65532
# An image that cannot start, or lacks a module that some command imports later, is not built.
RUN ["/app/bin/redis-cluster-bootstrap", "--version"]
# hadolint ignore=DL3059
RUN ["/app/bin/python", "-IBc", "import bootstrap, importlib, pkgutil as p; [importlib.import_module(m.name) for m in p.walk_packages(bootstrap.__path__, 'bootstrap.') if '__main__' not in m.name]"]
ENTRYPOINT ["/app/bin/redis-cluster-bootstrap"]
