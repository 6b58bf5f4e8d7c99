# pgdb with PostgreSQL of the distribution, for the `process` runtime inside; with a Docker socket it makes containers
# beside it instead (compose.docker.yaml). docker build -t pgdb .
ARG BUILDER=docker.io/library/rust:1.95-trixie
ARG BASE=docker.io/library/debian:trixie-slim

FROM ${BUILDER} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package pgdb

FROM ${BASE}
# Not as the package would have it, which makes and starts a server of its own.
RUN mkdir -p /etc/postgresql-common \
    && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
    && apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 1500 --user-group --home-dir /var/lib/pgdb --no-create-home --shell /usr/sbin/nologin pgdb \
    && install --directory --owner pgdb --group pgdb --mode 750 /var/lib/pgdb
COPY --from=build /src/target/release/pgdb /usr/local/bin/pgdb
COPY deploy/docker/entrypoint.sh /usr/local/bin/pgdb-entrypoint

ENV PGDB_DATA_DIR=/var/lib/pgdb PGDB_LISTEN=:8080
USER pgdb
WORKDIR /var/lib/pgdb
VOLUME /var/lib/pgdb
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["pgdb", "health"]
ENTRYPOINT ["pgdb-entrypoint"]
CMD ["serve"]
