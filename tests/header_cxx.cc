/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The same test, built and linked as C++11. */
#include <seg.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>	/* does not say so itself */
}

#include "header.c"
