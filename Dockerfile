# The image of the service, without a database. docs/operations.md describes deployment; compose.yaml also runs PostgreSQL.

FROM python:3.11-slim-bookworm AS build

# The dependencies come before the code, so that Docker rebuilds this layer only when the dependencies change.
WORKDIR /srv/lastpair
COPY pyproject.toml constraints.txt ./
RUN python -m venv --without-pip /opt/venv \
 && python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['otel'], sep='\n')" > /opt/requirements.txt \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --only-binary :all: \
    --constraint constraints.txt --requirement /opt/requirements.txt

# The modes are set here, so that the user below can read every file and write none, however the checkout was made. The code is
# compiled here, because that user cannot write the compiled files.
COPY db db
COPY app app
RUN python -m compileall -q app && chmod -R u=rwX,go=rX .


FROM python:3.11-slim-bookworm

LABEL org.opencontainers.image.title="lastpair" \
      org.opencontainers.image.description="Sells limited drops without ever overselling, on PostgreSQL"

COPY --from=build /opt/venv /opt/venv
COPY --from=build /srv/lastpair /srv/lastpair
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
  CMD ["python", "-c", "import os, sys; from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=7); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

# The list form starts no shell, so SIGTERM reaches the process; it ends its streams and exits.
CMD ["python", "-m", "app", "run"]
