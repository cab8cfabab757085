# One recipe for every image: docker build --build-arg SERVICE=web -t gleaner-web .
# SERVICE is one of broker, scheduler, recorder, web, node, and cli (the command line; it also
# prepares the volumes). It needs no BuildKit; each stage is built once and shared by all images.
ARG SERVICE=cli

FROM debian:bookworm-slim AS base
# One uid everywhere, so that a volume fits whichever service it is given to.
RUN groupadd --system --gid 10001 gleaner \
    && useradd --system --uid 10001 --gid gleaner --home-dir /var/lib/gleaner --shell /usr/sbin/nologin gleaner \
    && install -d -o gleaner -g gleaner -m 0755 /var/lib/gleaner

FROM base AS python
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt

FROM python AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip python3-venv ca-certificates
# The environments hold no pip: the one of the build looks after them, and stays here.
RUN python3 -m venv --without-pip /opt/gleaner && python3 -m venv --without-pip /opt/build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_CACHE_DIR=1

# The wheel, with the front end in it: Node comes from PyPI, as everywhere else.
FROM build AS wheel
WORKDIR /build
COPY requirements/build.txt requirements/
RUN pip --python /opt/build/bin/python install --quiet --require-hashes -r requirements/build.txt
COPY . .
RUN PATH=/opt/build/bin:$PATH pip --python /opt/build/bin/python wheel --quiet \
    --no-deps --no-build-isolation --wheel-dir /wheel .

# A file of pins for each image: pip demands a hash of everything or of nothing, so a constraint
# file with hashes for all images would not do. pip compiles to byte code, which saves half a second.
FROM build AS packages
ARG SERVICE
COPY requirements /requirements
RUN if [ "$SERVICE" != broker ]; then pip --python /opt/gleaner/bin/python install --quiet \
        --require-hashes -r "/requirements/$SERVICE.txt"; fi
COPY --from=wheel /wheel /wheel
RUN pip --python /opt/gleaner/bin/python install --quiet --no-deps /wheel/*.whl \
    && if [ "$SERVICE" != web ]; then rm -rf /opt/gleaner/lib/python3*/site-packages/services/web/static; fi

FROM base AS broker
RUN apt-get update \
    && apt-get install -y --no-install-recommends mosquitto mosquitto-clients \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt
USER gleaner
VOLUME /var/lib/gleaner
# The folder mosquitto/ of the repository is mounted here.
CMD ["/etc/gleaner-broker/start.sh"]

# What a service needs besides Python. Here and not further below, because the builder of old makes
# all stages for each image: what comes after the packages is done six times.
FROM python AS python-cli
RUN apt-get update \
    && apt-get install -y --no-install-recommends openssl \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*.log /var/log/apt \
    && for volume in broker scheduler recorder web operator; do \
        install -d -o gleaner -g gleaner -m 0755 "/gleaner/$volume"; done
FROM python AS python-broker
FROM python AS python-scheduler
FROM python AS python-recorder
FROM python AS python-web
FROM python AS python-node

FROM python-${SERVICE} AS gleaner
COPY --from=packages /opt/gleaner /opt/gleaner
ENV PATH=/opt/gleaner/bin:$PATH GLEANER_NODE__DATA_DIRECTORY=/var/lib/gleaner PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/lib/gleaner
USER gleaner
ENTRYPOINT ["gleaner"]

FROM gleaner AS scheduler
CMD ["scheduler"]

FROM gleaner AS recorder
CMD ["recorder"]

FROM gleaner AS web
ENV GLEANER_WEB__LISTEN=0.0.0.0:8080
EXPOSE 8080
CMD ["web"]

# Root, because it starts workloads as other users and sees everybody's files and terminals. With
# cgroup v2 a container has a cgroup namespace of its own; this one joins the host's, so that its
# groups are called there and here what they are called in /proc.
FROM gleaner AS node
USER root
ENTRYPOINT ["sh", "-c", "if [ -e /sys/fs/cgroup/cgroup.controllers ]; then exec nsenter --target 1 --cgroup -- gleaner \"$@\"; fi; exec gleaner \"$@\"", "gleaner"]
CMD ["node"]

FROM gleaner AS cli
CMD ["--help"]

FROM ${SERVICE}
