# syntax=docker/dockerfile:1
#
# Airflow with Lifeboat, its pinned requirements, and PostgreSQL's programs: servers for restores, clients for dumps.
#
#   docker build -t lifeboat .
#   docker build -t lifeboat --build-arg PG_MAJORS="17 18" .        # only the majors that you run

ARG AIRFLOW_VERSION=3.3.2
FROM apache/airflow:${AIRFLOW_VERSION}

ARG AIRFLOW_VERSION
# A restore takes the server programs of the major version that was backed up.
ARG PG_MAJORS="15 16 17 18"

USER root
SHELL ["/bin/bash", "-o", "errexit", "-o", "nounset", "-o", "pipefail", "-c"]

# PostgreSQL's own repository has all supported majors. Its signing key comes in Debian's package postgresql-common, so
# that Debian's signature vouches for it, and it is believed for this one repository alone. No cluster is made.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git openssh-client postgresql-common \
    && sed --regexp-extended --in-place "s/^#?create_main_cluster = .*/create_main_cluster = false/" \
        /etc/postgresql-common/createcluster.conf \
    && grep --quiet "^create_main_cluster = false$" /etc/postgresql-common/createcluster.conf \
    && . /etc/os-release \
    && printf '%s\n' \
        "Types: deb" \
        "URIs: https://apt.postgresql.org/pub/repos/apt" \
        "Suites: ${VERSION_CODENAME}-pgdg" \
        "Components: main" \
        "Signed-By: /usr/share/postgresql-common/pgdg/apt.postgresql.org.gpg" \
        > /etc/apt/sources.list.d/pgdg.sources \
    && apt-get update \
    && packages="" \
    && for major in ${PG_MAJORS}; do packages+=" postgresql-${major} postgresql-client-${major}"; done \
    && apt-get install --yes --no-install-recommends ${packages} \
    && rm -rf /var/lib/apt/lists/*

# Where policies' last valid copies, the local target and restores live: volumes take their owner from here.
RUN install -d -o airflow -g 0 -m 2775 /opt/airflow/lifeboat /backups /restores

USER airflow

# Hashes admit nothing but what was pinned, and every package needs one: so the version of Airflow itself is repeated in
# the requirements, and compared here with the image's before anything is installed, and again afterwards.
COPY --chown=airflow:0 requirements.txt /opt/lifeboat/requirements.txt
RUN grep --quiet "^apache-airflow==${AIRFLOW_VERSION} " /opt/lifeboat/requirements.txt \
    && pip install --no-cache-dir --require-hashes --only-binary :all: --requirement /opt/lifeboat/requirements.txt \
    && test "$(airflow version)" = "${AIRFLOW_VERSION}"

# The package itself. `lifeboat` on the command line and Airflow's plugins folder are the same files.
COPY --chown=airflow:0 pyproject.toml README.md LICENSE /opt/airflow/
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 include /opt/airflow/include
COPY --chown=airflow:0 deploy /opt/airflow/deploy
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable /opt/airflow && lifeboat policy check
