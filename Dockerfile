# One image for both programs: installed in the first stage, which has what that needs, run from the second, which has not.
FROM python:3.11-slim AS install
WORKDIR /source
RUN python -m venv /app
COPY requirements/run.txt requirements/run.txt
RUN /app/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/run.txt
COPY . .
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation .
# The charts' script takes seconds to make: done here, once for all that are started.
ENV XDG_CACHE_HOME=/app/cache
RUN /app/bin/python -m usage_service.web.pages.presentation.vega > /dev/null && chmod -R a+rX /app/cache

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home usage && install -d -o usage /data
COPY --from=install /app /app
ENV PATH=/app/bin:$PATH XDG_CACHE_HOME=/app/cache PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LOG_FORMAT=json
USER 10001
VOLUME /data
WORKDIR /data
CMD ["usage-service", "serve"]
