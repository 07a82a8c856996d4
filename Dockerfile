# sam-composer behind HTTP, for CPUs and for NVIDIA GPUs: PyTorch's own Linux build has both. For an image of a
# tenth of the size, without CUDA, give the package index of PyTorch's CPU builds: --build-arg TORCH_INDEX=URL.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY apps apps
COPY composer composer
COPY adapters adapters
COPY sam sam
COPY configs configs
RUN if [ -n "$TORCH_INDEX" ]; then \
        grep '^torch' constraints.txt | cut -d' ' -f1 > torch.txt \
        && pip install --index-url "$TORCH_INDEX" -r torch.txt; \
    fi \
    && pip install -c constraints.txt .

FROM python:${PYTHON}-slim
# OpenCV's drawing needs these two.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 composer \
    && install -d -o composer /cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 SAM_COMPOSER_CACHE=/cache
USER composer
WORKDIR /home/composer
VOLUME /cache
EXPOSE 8000
# Longer than limits.yaml's drain_seconds: `docker stop` must wait for the calls that are here.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
ENTRYPOINT ["sam-composer"]
CMD ["serve", "--host", "0.0.0.0"]
