#!/bin/sh
# Puts Debian's Chromium on a machine that has none, for the tests in tests/browser. Where that cannot be done, it says
# why and ends well: those tests are skipped then.
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        echo "Chromium is here: $(command -v "$name")"
        exit 0
    fi
done
if ! command -v apt-get >/dev/null 2>&1; then
    echo "No Chromium, and no apt-get to install it with: tests that need a browser will be skipped."
    exit 0
fi
as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1 || ! sudo -n true 2>/dev/null; then
        echo "No Chromium, and no right to install it: as root, run 'apt-get install chromium'."
        exit 0
    fi
    as_root="sudo -n"
fi
echo "Installing Debian's Chromium."
if $as_root apt-get update -qq >/dev/null 2>&1 &&
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1; then
    echo "Installed $(chromium --version 2>/dev/null || echo Chromium)."
else
    echo "apt-get could not install Chromium: tests that need a browser will be skipped."
fi
