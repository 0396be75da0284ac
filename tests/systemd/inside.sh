# The inside of a private machine, see private_machine.py: run by bash as root in new mount and process
# namespaces, as the first process there. Ends, and all others with it, when its standard input does.
#
#   inside.sh USER UID HOME FOLDER …
#
# The folders are those that the user must be able to read.
set -eu
user=$1 uid=$2 home=$3
shift 3
stash=$(mktemp -d)
mount -t tmpfs -o mode=755 tmpfs "$stash"
for file in passwd group; do cp "/etc/$file" "$stash/$file"; done
echo "$user:x:$uid:$uid::$home:/bin/bash" >> "$stash/passwd"
echo "$user:x:$uid:" >> "$stash/group"
for file in passwd group; do mount --bind "$stash/$file" "/etc/$file"; done

# Whoever checked the project out, or installed Python, may have a home that is closed to others: the ways there
# are made anew, with nothing else in them.
number=0 closed=() behind=()
for path in "$@"; do
  folder=$path top=
  while [ "$folder" != / ]; do
    folder=$(dirname "$folder")
    case $(stat -c %A "$folder") in *[xt]) ;; *) top=$folder ;; esac
  done
  if [ -n "$top" ]; then
    mkdir "$stash/$number"
    mount --bind "$path" "$stash/$number"
    closed+=("$top") behind+=("$path")
    number=$((number + 1))
  fi
done
for folder in $(printf '%s\n' "${closed[@]}" | sort -u); do
  mount -t tmpfs -o mode=755 tmpfs "$folder"
done
for ((each = 0; each < number; each++)); do
  mkdir -p "${behind[each]}"
  mount --bind "$stash/$each" "${behind[each]}"
done

# An empty /run, in which a folder says that systemd started this machine: a manager asks for no more.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/user
chown "$uid:$uid" "$home"
echo inside
# This shell is the first process in here, and so waits for those whose parents have gone.
while read -r line; do :; done
