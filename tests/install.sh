# Installs packages, for the scripts here that read this with `source`.

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# install <names in Debian> -- <in Fedora> -- <in Alpine> -- <in Arch> -- <in Homebrew>
install() {
  local all=$* manager packages
  if command -v apt-get >/dev/null; then manager=0
  elif command -v dnf >/dev/null; then manager=1
  elif command -v apk >/dev/null; then manager=2
  elif command -v pacman >/dev/null; then manager=3
  elif command -v brew >/dev/null; then manager=4
  else
    echo "no package manager is known here: install ${all%% -- *} yourself" >&2
    return 1
  fi
  packages=()
  while [ $# -gt 0 ]; do
    if [ "$1" = -- ]; then manager=$((manager - 1)); elif [ "$manager" = 0 ]; then packages+=("$1"); fi
    shift
  done
  echo "installing ${packages[*]}"
  if command -v apt-get >/dev/null; then
    as_root apt-get update -qq
    # Tests and benchmark start their own servers. RUNLEVEL keeps the distribution's from being started.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
      apt-get install -y -qq --no-install-recommends "${packages[@]}"
  elif command -v dnf >/dev/null; then as_root dnf install -y "${packages[@]}"
  elif command -v apk >/dev/null; then as_root apk add "${packages[@]}"
  elif command -v pacman >/dev/null; then as_root pacman -S --noconfirm "${packages[@]}"
  else brew install "${packages[@]}"
  fi
}
