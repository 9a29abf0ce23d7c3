/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "seg.h"

#ifndef PACKAGE_VERSION
#error "PACKAGE_VERSION comes from the build"
#endif

const char *seg_version(void)
{
	return PACKAGE_VERSION;
}
