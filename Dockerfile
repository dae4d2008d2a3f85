# The image of the service, without a database. docs/operations.md describes deployment; compose.yaml also runs PostgreSQL.

FROM python:3.11-slim-bookworm AS build

# The locked packages come before the code, so that Docker rebuilds this layer only when the locks change. The build's own Python
# gets what builds the wheel, which the image does not need.
WORKDIR /srv/lastpair
COPY requirements/build.txt requirements/production.txt requirements/
RUN python -m pip install --quiet --no-cache-dir --root-user-action ignore --no-deps --require-hashes \
    --requirement requirements/build.txt \
 && python -m venv --without-pip /opt/venv \
 && python -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir --only-binary :all: --no-deps --require-hashes \
    --requirement requirements/production.txt

# app/lastpair/db is a link to db, and app/lastpair/web/client one to clients/js, so the wheel carries copies of them.
COPY pyproject.toml README.md LICENSE ./
COPY db db
COPY clients clients
COPY app app
RUN python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && python -m pip --python /opt/venv/bin/python install --quiet --no-cache-dir --no-deps --no-index dist/*.whl


FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="lastpair" \
      org.opencontainers.image.description="Sells limited drops without ever overselling, on PostgreSQL" \
      org.opencontainers.image.licenses="MIT"

COPY --from=build /opt/venv /opt/venv
WORKDIR /srv/lastpair

ENV PATH="/opt/venv/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    APP_ENV=production \
    AUTH_MODE=jwt \
    PORT=4000

# The image has no user with this number, so the process owns no file in it. The process writes to /tmp only.
USER 10001:10001
EXPOSE 4000

# The check asks for readiness, because compose's depends_on and load balancers wait for it. Use /healthz instead on a platform
# that kills unhealthy containers (Swarm, ECS): a process that lost its database reconnects sooner than a new one starts.
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, sys; from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', int(os.environ.get('ADMIN_PORT') or os.environ['PORT']), timeout=7); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

# The list form starts no shell, so SIGTERM reaches the process; it ends its streams and exits.
CMD ["lastpair", "run"]
