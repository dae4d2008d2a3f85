# The service alone; the database is somewhere else. docs/operations.md says how to deploy it, compose.yaml runs both.

FROM python:3.11-slim-bookworm AS build

# What changes rarely first: this layer is made anew only when the dependencies change.
WORKDIR /srv/lastpair
COPY pyproject.toml constraints.txt ./
RUN python -m venv --without-pip /opt/venv \
 && python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['otel'], sep='\n')" > /opt/requirements.txt \
 && python -m pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check --only-binary :all: \
    --constraint constraints.txt --requirement /opt/requirements.txt

# Whatever the modes in the checkout were, the user below can read all of it and write none of it. Compiled here, for later nobody can.
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

# No user of this number is in the image, so nothing in there belongs to it; it writes to /tmp and nowhere else.
USER 10001:10001
EXPOSE 4000

# Readiness, for that is what others wait for: compose's depends_on and whoever passes requests on. Where something kills what is
# unhealthy (Swarm, ECS), ask /healthz instead: a process without its database comes back by itself, and sooner than a new one.
HEALTHCHECK --interval=10s --timeout=8s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, sys; from http.client import HTTPConnection; c = HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=7); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]

# No shell in between: SIGTERM reaches the process, which ends its streams and leaves.
CMD ["python", "-m", "app", "run"]
