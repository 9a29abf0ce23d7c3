/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * SEG_CONF, "name:value,...": for diagnosis.  It fills in what the program
 * left at its default and never overrides what the program set.
 */
#ifndef SEG_CONF_H
#define SEG_CONF_H

#include "log.h"

/* Applies the text (may be NULL) to options; tells the log what is wrong. */
void conf_apply(const char *text, struct seg_pool_options *options,
		const struct log *log);

/* The value of SEG_CONF, or NULL; ignored in set-uid programs. */
const char *conf_text(void);

#endif
