#!/usr/bin/env bash
# sshd reads keys only where nobody else could have changed them; the mounted ones belong to whoever made them.
set -o errexit -o nounset -o pipefail

install -o root -g root -m 600 /etc/sftp/host_key /run/sshd/host_key
install -o root -g root -m 644 /etc/sftp/authorized_key /run/sshd/authorized_key
exec /usr/sbin/sshd -D -e -f /etc/sftp/sshd_config
