# Two images of the two programs, each installed in a stage that has what that needs and run from one that has not:
#   glam-usage         the server and the builder
#   glam-usage-local   the same with the embedded warehouse (and PostgreSQL), for whoever has no BigQuery
# `make images` builds both. The secrets are for who reaches PyPI by an index or certificates of their own; none is needed.
ARG PYTHON=python:3.11.14-slim-bookworm
FROM ${PYTHON} AS packages
RUN python -m venv /app
COPY requirements/production.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    /app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/production.txt

FROM packages AS packages-local
COPY requirements/run.txt requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.crt \
    /app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/run.txt

FROM packages AS install
WORKDIR /source
COPY . .
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
# The charts' script takes seconds to make: done here, once for all that are started.
ENV XDG_CACHE_HOME=/app/cache
RUN /app/bin/python -m usage_service.web.pages.presentation.vega > /dev/null && chmod -R a+rX /app/cache

FROM packages-local AS install-local
COPY --from=install /app /app

# What /__version__ answers; in a stage of its own, so that another commit alone installs nothing anew.
FROM install AS version
ARG SOURCE="" COMMIT="" BUILD=""
RUN /app/bin/python -c 'import importlib.metadata, json, os; print(json.dumps({"version": importlib.metadata.version("glam-usage")} \
    | {name.lower(): os.environ.get(name, "") for name in ("SOURCE", "COMMIT", "BUILD")}))' > /app/version.json

FROM ${PYTHON} AS runtime
RUN useradd --uid 10001 --no-create-home usage && install -d -o usage /data
ENV PATH=/app/bin:$PATH XDG_CACHE_HOME=/app/cache PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LOG_FORMAT=json
USER 10001
WORKDIR /data
CMD ["usage-service", "serve"]

FROM runtime AS glam-usage-local
ARG COMMIT=""
LABEL org.opencontainers.image.revision=${COMMIT}
VOLUME /data
COPY --from=install-local /app /app
COPY --from=version /app/version.json /app/version.json

FROM runtime AS glam-usage
ARG COMMIT=""
LABEL org.opencontainers.image.revision=${COMMIT}
COPY --from=install /app /app
COPY --from=version /app/version.json /app/version.json
