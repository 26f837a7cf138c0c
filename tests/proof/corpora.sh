#!/bin/sh
# SPDX-License-Identifier: MIT
#
# corpora.sh - hostile and valid JPEGs, every valid file cut at every length, EXIF files, and the JSON suite: decoded in process,
# then sent to a daemon. One line per proof. The corpora are optional data: RESNETD_CORPORA and RESNETD_DATA, else ../shared.

. "${srcdir:-.}/tests/lib.sh"
corpora=${RESNETD_CORPORA-$srcdir/../shared/corpora}
data=${RESNETD_DATA-$srcdir/../shared/data}
python=${PYTHON-/usr/bin/python3}
files=$builddir/tests/proof/image_files
[ -d "$corpora/jpeg-hostile" ] || { echo "SKIP: no corpora in $corpora"; exit 77; }
command -v "$python" >/dev/null || { echo "SKIP: python3 is not here"; exit 77; }
status=0

# line NAME ASKED REACHED TEST...
line()
{
    line_name=$1 line_asked=$2 line_reached=$3
    shift 3
    if "$@"; then line_verdict=pass; else line_verdict=fail status=1; fi
    printf '%s: %s asked, %s, %s\n' "$line_name" "$line_asked" "$line_reached" $line_verdict
}

"$files" whole "$corpora"/jpeg-hostile/* "$corpora"/jpeg-valid/* >"$tmp/whole" || status=1
set -- $(sed -n 's/.*: code [-0-9]*, \([0-9]*\)\.[0-9]* ms, \([0-9]*\) KiB.*/\1 \2/p' "$tmp/whole" |
    awk '{ ms = $1 > ms ? $1 : ms; kib = $2 > kib ? $2 : kib } END { print NR, ms + 1, kib }')
line "JPEG hostile and valid" "43 files, each <= 250 ms, <= 64 MiB" "$1 files, worst $2 ms, $3 KiB" \
    [ "$1" -ge 43 -a "$2" -le 250 -a "$3" -le 65536 ]
valid=$(grep -c 'jpeg-valid.*code -1' "$tmp/whole")
line "JPEG valid" "16 decoded" "$valid decoded" [ "$valid" -eq 16 ]

"$files" cuts "$corpora"/jpeg-valid/* >"$tmp/cuts" || status=1
set -- $(sed -n 's/.*cut at \([0-9]*\) lengths, \([0-9]*\) decoded, \([0-9]*\) strange, worst \([0-9]*\)\.[0-9]* ms, \([0-9]*\) KiB/\1 \2 \3 \4 \5/p' \
    "$tmp/cuts" | awk '{ n += $1; d += $2; s += $3; ms = $4 > ms ? $4 : ms; kib = $5 > kib ? $5 : kib } END { print n, d, s, ms + 1, kib }')
line "JPEG cut at every length" "0 decoded, 0 strange, <= 250 ms, <= 64 MiB" \
    "$1 cuts, $2 decoded, $3 strange, worst $4 ms, $5 KiB" [ "$1" -gt 0 -a "$2" -eq 0 -a "$3" -eq 0 -a "$4" -le 250 -a "$5" -le 65536 ]

if "$python" -c 'import PIL' 2>/dev/null; then
    equal_files=0 all_files=0
    for file in "$corpora"/jpeg-valid/* "$data"/awkward/valid/exif/*; do
        all_files=$((all_files + 1))
        "$files" pixels "$file" >"$tmp/ours.ppm" &&
            "$python" -c 'import sys; from PIL import Image, ImageOps
im = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
sys.exit(im.tobytes() != Image.open(sys.argv[2]).tobytes())' "$file" "$tmp/ours.ppm" && equal_files=$((equal_files + 1)) ||
            echo "    differs from Pillow: $file"
    done
    line "JPEG pixel-exact with Pillow, upright" "$all_files" "$equal_files" [ "$equal_files" -eq "$all_files" ]
else
    echo "SKIP: pixels: python3-pil is not here"
fi

start_daemon --model "$bundled"
"$python" "$srcdir/tests/proof/corpora.py" "$url" "$daemon_pid" "$corpora" || status=1
stop_daemon
line "clean end" "status 0" "$exit_status" [ "$exit_status" -eq 0 ]
exit $status
