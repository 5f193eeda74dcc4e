"""The app: screens and widgets over the light half of `bitnet_core`. It never imports the heavy half."""
