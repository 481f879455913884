/* The data set: ../data/digits.bin in flash. ../data/README.md says where it comes from. */
#ifndef IMAGES_H
#define IMAGES_H

#include <stdint.h>

enum { PIXELS = 64, CLASSES = 10, TRAINING_IMAGES = 1437, TEST_IMAGES = 360 };

typedef struct {
    uint8_t pixels[PIXELS]; /* Rows of 8, 0 (white) to 16. */
    uint8_t label;          /* The digit. */
} image;

/* The training images, then the test images. */
extern const image images[TRAINING_IMAGES + TEST_IMAGES];

#endif
