# One image for every process of a fleet: workers, beat, Flower, producer. Built from pinned, hashed requirements.
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS build
RUN python3 -m venv /opt/openeo-fleet
WORKDIR /src
COPY requirements/worker.txt requirements/
RUN /opt/openeo-fleet/bin/pip install --no-cache-dir --require-hashes --requirement requirements/worker.txt
COPY pyproject.toml README.md LICENSE ./
COPY campaign campaign
COPY producer producer
COPY workers workers
COPY sandbox sandbox
RUN /opt/openeo-fleet/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE_IMAGE}
# The wheels of rasterio take this library from the system.
RUN ldconfig -p | grep -q libexpat.so.1 \
    || (apt-get update && apt-get install -y --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*)
COPY --from=build /opt/openeo-fleet /opt/openeo-fleet
ENV PATH=/opt/openeo-fleet/bin:$PATH PYTHONUNBUFFERED=1
RUN useradd --uid 1000 --create-home fleet && install -d -o fleet -g fleet /work
USER fleet
WORKDIR /work
CMD ["openeo-fleet", "--help"]
