# The ML backend and its worker; compose.yaml builds it and runs each in a container of its own (docs/deployment.md).
FROM python:3.11-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1 \
    RANKLOOP_DATA_DIR=/data \
    RANKLOOP_HOST=0.0.0.0 \
    RANKLOOP_LOG_FORMAT=json

RUN useradd --create-home --uid 10001 rankloop \
    && install --directory --owner=rankloop /data /home/rankloop/.cache /home/rankloop/.cache/huggingface

WORKDIR /app

# torch is installed first, on its own: see the Makefile.
COPY constraints.txt pyproject.toml README.md LICENSE label_config.xml ./
COPY ml_backend ml_backend
COPY training training
RUN pip install "$(grep '^torch==' constraints.txt)" \
    && pip install -c constraints.txt .

USER 10001
VOLUME /data
EXPOSE 9090

HEALTHCHECK --interval=30s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/health', timeout=2)"]

# Server and worker in one container, for trying it out; compose.yaml runs them separately.
CMD ["rankloop", "up"]
