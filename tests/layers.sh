#!/bin/sh
# SPDX-License-Identifier: MIT
# The one-way rule daemon -> models -> kernels: no include points upwards.
cd "${srcdir:-.}" || exit 99
bad=0
if grep -rnE '#include "(models|daemon)/' kernels/; then echo "kernels/ must not know models/ or daemon/"; bad=1; fi
if grep -rn '#include "daemon/' models/; then echo "models/ must not know daemon/"; bad=1; fi
if grep -rn '#include "models/train/' models/ | grep -v '^models/train/'; then echo "models/ must not know models/train/"; bad=1; fi
if grep -rnE '#include <(microhttpd|jpeglib|png|webp)' kernels/ models/; then echo "HTTP and image libraries belong to daemon/"; bad=1; fi
exit $bad
