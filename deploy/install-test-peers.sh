#!/bin/sh
# Makes sure that the Debian packages named as arguments are installed: the real peers of the
# integration tests. Installs them where it may; otherwise says which line to run, and fails.
set -u
missing=
for package in "$@"; do
    # Node.js and its npm may be there from elsewhere than Debian
    case $package in
        nodejs) command -v node >/dev/null && continue ;;
        npm) command -v npm >/dev/null && continue ;;
    esac
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
        missing="$missing $package"
done
[ -z "$missing" ] && exit 0
line="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    echo "installing the test peers:$missing"
    # the Orthanc package starts a service on the standard ports; the tests start their own
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d.dicom-node
    had_policy=
    if [ -e /usr/sbin/policy-rc.d ]; then
        had_policy=1
        rm /usr/sbin/policy-rc.d.dicom-node
    else
        mv /usr/sbin/policy-rc.d.dicom-node /usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d
    fi
    apt-get update -q >/dev/null && DEBIAN_FRONTEND=noninteractive $line >/dev/null
    status=$?
    [ -n "$had_policy" ] || rm -f /usr/sbin/policy-rc.d
    [ $status -eq 0 ] && exit 0
    echo "the test peers could not be installed; run: $line" >&2
    exit 1
fi
echo "the tests need these programs, and this user may not install them; run:" >&2
echo "    sudo $line" >&2
exit 1
