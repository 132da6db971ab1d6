# Two images of the two programs, each installed in a stage that has what that needs and run from one that has not:
#   glam-usage         the server and the builder
#   glam-usage-local   the same with the embedded warehouse (and PostgreSQL), for whoever has no BigQuery
FROM python:3.11-slim AS install
WORKDIR /source
RUN python -m venv /app
COPY requirements/production.txt requirements/production.txt
RUN /app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/production.txt
COPY . .
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
# The charts' script takes seconds to make: done here, once for all that are started.
ENV XDG_CACHE_HOME=/app/cache
RUN /app/bin/python -m usage_service.web.pages.presentation.vega > /dev/null && chmod -R a+rX /app/cache

# What /__version__ answers: docker build --build-arg COMMIT=$(git rev-parse HEAD) ...
ARG SOURCE="" COMMIT="" BUILD=""
RUN /app/bin/python -c 'import importlib.metadata, json, os; print(json.dumps({"version": importlib.metadata.version("glam-usage")} \
    | {name.lower(): os.environ.get(name, "") for name in ("SOURCE", "COMMIT", "BUILD")}))' > /app/version.json

FROM install AS install-local
RUN /app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/run.txt

FROM python:3.11-slim AS runtime
RUN useradd --uid 10001 --no-create-home usage && install -d -o usage /data
ENV PATH=/app/bin:$PATH XDG_CACHE_HOME=/app/cache PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LOG_FORMAT=json
USER 10001
VOLUME /data
WORKDIR /data
CMD ["usage-service", "serve"]

FROM runtime AS glam-usage-local
COPY --from=install-local /app /app

FROM runtime AS glam-usage
COPY --from=install /app /app
