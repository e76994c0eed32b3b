# The image of every Airflow service: Airflow 3.3.2, the locked packages, PostgreSQL of the supported majors, the project.
FROM apache/airflow:3.3.2-python3.12

# PostgreSQL's clients dump a source, its servers run restore tests: both must be of the source's own major.
ARG POSTGRES_MAJORS="13 14 15 16 17 18"

USER root
RUN set -eux; \
    apt-get update; \
    apt-get install --yes --no-install-recommends git openssh-client postgresql-common zstd; \
    mkdir -p /etc/postgresql-common; \
    # Restore tests make servers of their own; the packages are not to make and start any.
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf; \
    # postgresql-common brings the script that adds PostgreSQL's own package repository.
    sh /usr/share/postgresql-common/pgdg/*.sh -y; \
    for major in ${POSTGRES_MAJORS}; do \
        apt-get install --yes --no-install-recommends "postgresql-${major}"; \
    done; \
    apt-get clean; \
    rm -rf /var/lib/apt/lists/*; \
    # Where volumes are mounted: a new one takes its owner from here. The last is the demo's.
    install -d -o airflow -g 0 -m 0770 \
        /var/lib/backup/staging /var/lib/backup/scratch /var/lib/backup/restored /opt/airflow/.local

USER airflow
COPY --chown=airflow:0 requirements.lock /opt/airflow/
# What is locked replaces what the base image has of it, the rest of that stays; every file is checked by its hash.
# Compiled here, since what a container compiles is gone with it.
RUN uv pip install --no-cache --compile-bytecode --require-hashes --requirement /opt/airflow/requirements.lock

COPY --chown=airflow:0 dags /opt/airflow/dags
COPY --chown=airflow:0 plugins /opt/airflow/plugins
COPY --chown=airflow:0 include /opt/airflow/include
COPY --chown=airflow:0 airflow_settings.yaml /opt/airflow/
RUN python -m compileall -q /opt/airflow/dags /opt/airflow/plugins /opt/airflow/include
ENV PYTHONPATH=/opt/airflow
WORKDIR /opt/airflow
