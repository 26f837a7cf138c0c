// SPDX-License-Identifier: MIT
//
// stuck_decoder.c - for LD_PRELOAD: a libjpeg that never comes back from images of 17 columns. It makes one worker hang as a bug in a
// decoder would, while the rest of the daemon goes on.

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <jpeglib.h>

boolean jpeg_start_decompress(j_decompress_ptr cinfo)
{
    boolean (*real)(j_decompress_ptr);
    *(void **)&real = dlsym(RTLD_NEXT, "jpeg_start_decompress");
    while (cinfo->image_width == 17)
        pause();
    return real(cinfo);
}
