# One image for all applications; the command selects the application.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/segments \
    && /opt/segments/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY . .
RUN /opt/segments/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.13-slim
# PYTHONSAFEPATH: never import from the working directory.
ENV PATH=/opt/segments/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    SEGMENTS_DATA_DIR=/var/lib/segments
RUN useradd --system --uid 10001 segments \
    && install --directory --owner segments /var/lib/segments /var/lib/segments/history
COPY --from=build /opt/segments /opt/segments
USER segments
WORKDIR /var/lib/segments
VOLUME /var/lib/segments
ENTRYPOINT ["segments"]
CMD ["--help"]
